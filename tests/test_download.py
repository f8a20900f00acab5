"""`download` against a server that cuts, lies, hangs and redirects: what arrives is right and whole, or not there."""

from __future__ import annotations

import hashlib
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from file_server import CONTENT, ETAG, Served, serving

from cxr_experiments.config.command_line import as_text, escaped
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.images.download import Fetched, Listener, Partial, Patience, fetch, file_below, shown
from cxr_experiments.images.download.addresses import redirected
from cxr_experiments.images.published import PublishedFile

QUICK = Patience(connect_s=2.0, stall_s=0.4, num_retries=3, num_knocks=1, backoff_s=0.01)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of the test's own."""
    with serving() as told:
        yield told


def fetched(served: Served, folder: Path, *, listener: Listener | None = None, **options: object) -> Fetched:
    """`fetch` of what the server has, with little patience."""
    url, md5 = str(options.pop("url", served.url)), str(options.pop("md5", MD5))
    settings = {"max_bytes": 10**7, "patience": QUICK, "listener": listener or Listener(), **options}
    return fetch(PublishedFile("data.bin", url, md5), folder, **settings)  # type: ignore[arg-type]


def names_in(folder: Path) -> set[str]:
    """What a person sees in a folder, and what they do not, locks apart."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def ranges(served: Served) -> list[str | None]:
    """The Range of each request."""
    return [asked.get("Range") for asked in served.asked]


def test_whole_file_arrives_and_nothing_else_stays(served: Served, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    got = fetched(served, tmp_path, listener=Listener(on_progress=lambda done, total: steps.append((done, total))))
    assert got == Fetched(tmp_path / "data.bin", was_there=False)
    assert got.path.read_bytes() == CONTENT
    assert names_in(tmp_path) == {"data.bin"}
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert fetched(served, tmp_path).was_there
    assert len(served.asked) == 1, "what is there and right is not fetched again"
    assert served.asked[0]["Accept-Encoding"] == "identity"


def test_cut_transfers_go_on_where_they_stopped(served: Served, tmp_path: Path) -> None:
    served.cuts = [100_000, 0, 250_000]
    notes: list[str] = []
    fetched(served, tmp_path, listener=Listener(note=notes.append))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    told = [(asked.get("Range"), asked.get("If-Range")) for asked in served.asked]
    assert told == [(None, None), ("bytes=100000-", ETAG), ("bytes=100000-", ETAG), ("bytes=350000-", ETAG)]
    assert len(notes) == 3
    assert notes[0] == "data.bin: the connection was cut after 0.1 MiB; again in 0.01 s"


def test_server_that_ignores_ranges_is_begun_with_anew(served: Served, tmp_path: Path) -> None:
    served.ranges, served.cuts = False, [200_000]
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served) == [None, "bytes=200000-"]


def test_file_that_changes_between_tries_is_begun_with_anew(served: Served, tmp_path: Path) -> None:
    served.content, served.etag, served.cuts = b"old" * 100_000, '"old"', [150_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="the same command goes on from there"):
        fetched(served, tmp_path)
    served.content, served.etag, served.cuts = CONTENT, ETAG, []
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert served.asked[-1]["If-Range"] == '"old"'


def test_range_of_another_version_is_not_joined(served: Served, tmp_path: Path) -> None:
    """A server that takes no notice of If-Range, but tells the new version or the new size."""
    served.content, served.etag, served.cuts = b"old" * 100_000, '"old"', [150_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path)
    served.content, served.etag, served.cuts, served.obeys_if_range = CONTENT, ETAG, [], False
    notes: list[str] = []
    fetched(served, tmp_path, listener=Listener(note=notes.append))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert notes == ["data.bin: the file changed on the server; again in 0.01 s"]


def test_new_version_of_the_same_size_is_not_joined(served: Served, tmp_path: Path) -> None:
    """Nor can a checksum tell here: none is known."""
    served.content, served.etag, served.cuts = bytes(len(CONTENT)), '"old"', [150_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path, md5="")
    served.content, served.etag, served.cuts, served.obeys_if_range = CONTENT, ETAG, [], False
    fetched(served, tmp_path, md5="")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_file_that_shrank_is_begun_with_anew(served: Served, tmp_path: Path) -> None:
    served.content, served.cuts, served.obeys_if_range = CONTENT * 2, [900_000, 0, 0, 0, 0], False
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path)
    served.content, served.cuts = CONTENT, []
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served)[-2:] == ["bytes=900000-", None]


def test_range_that_begins_elsewhere_is_not_joined(served: Served, tmp_path: Path) -> None:
    served.cuts, served.goes_back = [150_000], 1
    fetched(served, tmp_path, md5="")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served) == [None, "bytes=150000-", None]


def test_range_that_comes_in_parts_is_asked_for_until_the_end(served: Served, tmp_path: Path) -> None:
    served.cuts, served.most_per_range = [100_000], 200_000
    fetched(served, tmp_path, md5="")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served) == [None, "bytes=100000-", "bytes=300000-", "bytes=500000-"]


def test_weak_validator_is_none(served: Served, tmp_path: Path) -> None:
    """A weak ETag says that two versions mean the same, not that their bytes are the same."""
    served.etag, served.cuts = 'W/"weak"', [150_000]
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert "If-Range" not in served.asked[-1]
    assert ranges(served) == [None, "bytes=150000-"]


def test_pieces_without_validator_that_do_not_fit_are_fetched_anew_once(served: Served, tmp_path: Path) -> None:
    served.content, served.etag, served.cuts = bytes(len(CONTENT)), "", [150_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path)
    served.content, served.cuts = CONTENT, []
    notes: list[str] = []
    fetched(served, tmp_path, listener=Listener(note=notes.append))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert notes == ["data.bin: the pieces do not fit together; fetching it from the beginning"]
    assert ranges(served)[-2:] == ["bytes=150000-", None]


def test_without_validator_and_checksum_nothing_is_joined(served: Served, tmp_path: Path) -> None:
    served.etag, served.cuts = "", [150_000]
    fetched(served, tmp_path, md5="")
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served) == [None, None]


def test_wrong_bytes_are_removed(served: Served, tmp_path: Path) -> None:
    served.content = b"an error page"
    with pytest.raises(DataError, match=r"sent other bytes than published: MD5 [0-9a-f]{32}, expected [0-9a-f]{32}"):
        fetched(served, tmp_path)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("status", [404, 403, 410, 206])
def test_refusal_is_told_at_once(status: int, served: Served, tmp_path: Path) -> None:
    served.statuses = [status] * 9
    with pytest.raises(DataError, match=rf"data\.bin answered {status} \(.+\); or fetch http.*data\.bin by hand"):
        fetched(served, tmp_path)
    assert len(served.asked) == 1
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_trouble_is_waited_out(status: int, served: Served, tmp_path: Path) -> None:
    served.statuses = [status] * 3
    fetched(served, tmp_path)
    assert len(served.asked) == 4
    served.statuses = [status] * 9
    with pytest.raises(DataError, match=f"answered {status}"):
        fetched(served, tmp_path / "other")
    assert len(served.asked) == 4 + 1 + QUICK.num_retries


@pytest.mark.parametrize("how", ["silent", "dripping"])
def test_stalled_connection_ends(how: str, served: Served, tmp_path: Path) -> None:
    served.drip, served.silent = how == "dripping", how == "silent"
    words = "nothing came for 0.3 s" if how == "silent" else "next to nothing came for 0.3 s"
    begin = time.monotonic()
    try:
        with pytest.raises(DataError, match=words):
            fetched(served, tmp_path, patience=Patience(stall_s=0.3, num_retries=1, backoff_s=0.01))
    finally:
        served.drip = served.silent = False
    assert time.monotonic() - begin < 5
    assert len(served.asked) == 2


def test_host_that_is_not_there_is_told_soon(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}/a/data.bin?signature=secret"
        notes: list[str] = []
        with pytest.raises(DataError, match=r"/a/data\.bin: the connection was refused; nothing was fetched") as told:
            fetch(
                PublishedFile("data.bin", url, MD5),
                tmp_path,
                max_bytes=10,
                patience=QUICK,
                listener=Listener(note=notes.append),
            )
    assert len(notes) == QUICK.num_knocks
    assert "secret" not in str(told.value) + "".join(notes)
    with pytest.raises(DataError, match="the host's name was not found"):
        fetch(PublishedFile("data.bin", "http://no-such-host.invalid/x", MD5), tmp_path, max_bytes=10, patience=QUICK)


def test_larger_file_than_expected_is_refused(served: Served, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sends 1 MiB where at most 0 MiB are expected: this is not"):
        fetched(served, tmp_path, max_bytes=300_000)
    assert names_in(tmp_path) == set()
    served.length = False  # nor when the size is told by the bytes alone
    with pytest.raises(DataError, match="sends more where at most"):
        fetched(served, tmp_path, max_bytes=300_000)
    assert names_in(tmp_path) == set()


def test_file_of_untold_length_arrives(served: Served, tmp_path: Path) -> None:
    served.length = False
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_packed_answer_is_refused(served: Served, tmp_path: Path) -> None:
    served.encoding = "gzip"
    with pytest.raises(DataError, match="sends the file in the encoding gzip, which was not asked for"):
        fetched(served, tmp_path)
    assert names_in(tmp_path) == set()


def test_redirects_are_followed_but_not_for_ever(served: Served, tmp_path: Path) -> None:
    served.redirect = "/films/data.bin"
    fetched(served, tmp_path, url=served.url.replace("films", "moved"))
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    served.redirect = "/moved/again"
    with pytest.raises(DataError, match="redirects more than 10 times"):
        fetched(served, tmp_path / "b", url=served.url.replace("films", "moved"))


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/data.bin", "file:///etc/passwd", "https://[bad/x"])
def test_redirect_to_anything_but_http_is_refused(target: str, served: Served, tmp_path: Path) -> None:
    served.redirect = target
    with pytest.raises(DataError, match=r"redirects to something that is no http\(s\) address"):
        fetched(served, tmp_path, url=served.url.replace("films", "moved"))
    assert names_in(tmp_path) == set()


def test_password_goes_to_the_host_it_is_for_and_nowhere_else(served: Served, tmp_path: Path) -> None:
    with serving() as other:
        served.redirect = other.url
        fetched(served, tmp_path, url=served.url.replace("films", "moved").replace("127", "me:secret@127"))
    assert "Authorization" in served.asked[0]
    assert "Authorization" not in other.asked[0]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody has signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_certificates_are_checked(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(certificate) as served:
        with pytest.raises(DataError, match=r"the certificate of https://127.+ is not valid here; nothing was fetched"):
            fetched(served, tmp_path)
        assert served.asked == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_redirect_from_https_down_to_http_is_refused(
    certificate: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(certificate) as secure:
        secure.redirect = served.url
        with pytest.raises(DataError, match="redirects from https to unprotected http://127"):
            fetched(secure, tmp_path, url=secure.url.replace("films", "moved"))
    assert served.asked == []
    assert names_in(tmp_path) == set()


def test_other_file_in_its_place_is_left_as_it_is(served: Served, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"is there already, and its MD5 is [0-9a-f]{32}, published is"):
        fetched(served, tmp_path)
    with pytest.raises(DataError, match="it cannot be checked: move it away"):
        fetched(served, tmp_path, md5="")
    assert (tmp_path / "data.bin").read_bytes() == b"mine"
    (tmp_path / "b" / "data.bin").mkdir(parents=True)
    with pytest.raises(DataError, match="it cannot be checked"):
        fetched(served, tmp_path / "b")
    assert served.asked == []


def test_bytes_without_a_readable_note_are_no_beginning(served: Served, tmp_path: Path) -> None:
    partial = Partial(tmp_path / "data.bin")
    for note in ("", "{", "[]", '{"address": 1}', '{"address": "x", "validator": "", "num_bytes": "many"}'):
        partial.path.write_bytes(b"rubbish")
        partial.note_path.write_text(note)
        fetched(served, tmp_path)
        assert (tmp_path / "data.bin").read_bytes() == CONTENT
        (tmp_path / "data.bin").unlink()
    assert set(ranges(served)) == {None}


def test_beginning_from_another_address_is_not_gone_on_with(served: Served, tmp_path: Path) -> None:
    served.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path, url=served.url.replace("films", "elsewhere"))
    fetched(served, tmp_path)
    assert ranges(served)[-1] is None


def test_whole_beginning_is_not_asked_for_again(served: Served, tmp_path: Path) -> None:
    """As after a crash between the last byte and the renaming."""
    served.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="are kept"):
        fetched(served, tmp_path)
    Partial(tmp_path / "data.bin").path.write_bytes(CONTENT)
    num_asked = len(served.asked)
    assert not fetched(served, tmp_path).was_there
    assert len(served.asked) == num_asked


def test_two_at_once_fetch_once(served: Served, tmp_path: Path) -> None:
    served.pause_s = 0.03
    notes: list[str] = []
    got: list[Fetched] = []

    def one() -> None:
        got.append(fetched(served, tmp_path, listener=Listener(note=notes.append)))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.was_there for one in got) == [False, True, True]
    assert len(served.asked) == 1
    assert notes == [f"another process is busy with {tmp_path / 'data.bin'}: waiting for it"] * 2
    assert names_in(tmp_path) == {"data.bin"}


def test_place_that_cannot_be_written_is_one_line(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"cannot write to .*file/below: .+; make room or mend its permissions"):
        fetched(served, tmp_path / "file" / "below")


def test_too_little_room_is_told_before_the_first_byte(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(DataError, match=r"has 0 MiB free and 1 MiB are to come: make room, or choose another place"):
        fetched(served, tmp_path)


def test_full_disk_keeps_what_has_arrived(served: Served, tmp_path: Path) -> None:
    """The operating system refuses bytes beyond 300,000 in a process of its own."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from cxr_experiments.errors import DataError\n"
        "from cxr_experiments.images.download import fetch\n"
        "from cxr_experiments.images.published import PublishedFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    fetch(PublishedFile('data.bin', {served.url!r}, {MD5!r}), Path({str(tmp_path)!r}), max_bytes=10**7)\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"cannot write to {tmp_path}: File too large; make room"), done.stdout
    assert names_in(tmp_path) == {".data.bin.part", ".data.bin.part.json"}
    fetched(served, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert ranges(served)[-1] == "bytes=300000-"


def test_addresses_show_no_secret() -> None:
    assert shown("https://u:p@h.org:1/a/b.zip?X-Signature=s#t") == "https://h.org:1/a/b.zip"
    assert file_below("https://u:p@h.org/a?token=t", "b") == "https://u:p@h.org/a/b?token=t"
    assert redirected("https://h.org/a/b", "../c") == "https://h.org/c"
    assert redirected("http://h.org/a", "https://other.org/") == "https://other.org/"


@pytest.mark.parametrize(
    "mirror", ["ftp://secret@h/x", "secret", "http://", "//h/secret", "http://[secret", "http://h:0"]
)
def test_mirror_that_is_no_address_is_not_repeated(mirror: str) -> None:
    with pytest.raises(ConfigError, match="mirror: expected the address of a folder") as told:
        file_below(mirror, "b")
    assert "secret" not in str(told.value)


def test_mirror_reaches_the_config_as_typed() -> None:
    typed = "http://u:p@h:1/a?x=[1],${b}"
    assert as_text([f"mirror={typed}", "data=kaggle"]) == [f"mirror={escaped(typed)}", "data=kaggle"]
    assert as_text(["mirror=null", "mirror=", "mirror='x'"]) == ["mirror=null", "mirror=", "mirror='x'"]
