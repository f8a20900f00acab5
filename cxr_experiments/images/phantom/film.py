"""One straight page from a row to a film: patient, pose, tissue, bone, vessels, lesion, exposure, marker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.phantom.anatomy import (
    Anatomy,
    Lungs,
    abdomen,
    airways,
    arms,
    draw_anatomy,
    heart,
    make_lungs,
    trunk,
)
from cxr_experiments.images.phantom.bones import ribs, shoulder_girdle, spine
from cxr_experiments.images.phantom.exposure import collimate, develop, draw_exposure, stamp_marker
from cxr_experiments.images.phantom.frame import Field, Frame, Pose, draw_pose, make_frame, smooth_field, stream
from cxr_experiments.images.phantom.lesion import Lesion, make_lesion, no_lesion
from cxr_experiments.images.phantom.rows import PhantomRow
from cxr_experiments.images.phantom.vessels import draw_vessels, hila, vessel_tree


@dataclass(frozen=True)
class Phantom:
    """One synthetic film.

    Attributes:
        image: (256, 256) uint8, bone and soft tissue bright, air dark; the heart on the image's right.
        label: 0 NORMAL, 1 PNEUMONIA.
        lesion_mask: (256, 256) bool, every pixel whose air the lesion replaces; all False on label 0.
        patient: as in the row.
        pattern: "normal", "lobar", "patchy" or "interstitial".
    """

    image: NDArray[np.uint8]
    label: int
    lesion_mask: NDArray[np.bool_]
    patient: str
    pattern: str


@dataclass(frozen=True)
class _Subject:
    """A patient before the detector: what both the film and the lung mask are made from."""

    anatomy: Anatomy
    pose: Pose
    frame: Frame
    lungs: Lungs


def render(row: PhantomRow, *, seed: int, difficulty: float) -> Phantom:
    """The film of a row: a pure function of its arguments, whatever was rendered before and in which process.

    Args:
        row: `patient` fixes anatomy and disease, `index` pose, exposure, noise and marker, `label` whether there is a
            lesion; nothing else depends on the label.
        seed: the data set's.
        difficulty: in [0, 1]: 0 large dense lesions on calm films, 1 small faint ones among strong normal variation.
    """
    hardness = difficulty**1.75  # bent so that a small network learns 0.5 in some hundred steps, 1 hardly at all
    subject = _subject(row, seed)
    lesion = no_lesion(subject.frame)
    if row.label == 1:
        days = (stream(seed, "disease", row.patient), stream(seed, "day", row.index))
        lesion = make_lesion(subject.frame, subject.anatomy, subject.lungs, days, hardness)
    rng = stream(seed, "film", row.index)
    thickness = _thickness(subject, lesion, row, seed, hardness)
    gray = develop(thickness, draw_exposure(rng, hardness), rng)
    gray = stamp_marker(collimate(gray, rng), rng)
    image = (np.clip(gray, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return Phantom(image, row.label, lesion.mask, row.patient, lesion.pattern)


def lung_mask(row: PhantomRow, *, seed: int) -> NDArray[np.bool_]:
    """(256, 256) bool: the outline of both lungs of a row's film, the part behind the heart included."""
    return _subject(row, seed).lungs.depth > 0.0


def _subject(row: PhantomRow, seed: int) -> _Subject:
    anatomy = draw_anatomy(stream(seed, "anatomy", row.patient))
    pose = draw_pose(stream(seed, "pose", row.index))
    frame = make_frame(pose)
    return _Subject(anatomy, pose, frame, make_lungs(frame, anatomy, pose))


def _thickness(subject: _Subject, lesion: Lesion, row: PhantomRow, seed: int, hardness: float) -> Field:
    """Thickness of everything the rays pass, (256, 256), about 1 through the belly and 0 beside the body."""
    anatomy, pose, frame, lungs = subject.anatomy, subject.pose, subject.frame, subject.lungs
    normal = stream(seed, "normal", row.index)  # of the day, and of both labels: what lesions must be told from
    body = trunk(frame, anatomy)
    bone = ribs(frame, anatomy, lungs, stream(seed, "ribs", row.patient))
    bone += spine(frame, anatomy, pose) + shoulder_girdle(frame, anatomy, pose)
    air = lungs.air * (1.0 - 0.88 * heart(frame, anatomy, pose))
    fullness = (0.75 + 0.5 * hardness) * normal.uniform(0.8, 1.25)
    vessels = draw_vessels(vessel_tree(anatomy, pose, stream(seed, "vessels", row.patient)), pose)
    markings = (vessels + 0.30 * hila(frame, pose)) * (fullness / anatomy.lung_air)
    haze = (0.05 + 0.09 * hardness) * normal.uniform(0.4, 1.4) * smooth_field(normal, 37)
    mottle = (0.02 + 0.04 * hardness) * normal.uniform(0.4, 1.4) * smooth_field(normal, 9)
    air *= np.clip(1.0 - markings - haze - mottle, 0.08, 1.25) * (1.0 - lesion.opacity)
    hollow = 0.12 * airways(frame, anatomy, pose) + 0.14 * abdomen(frame, anatomy, pose, normal)
    unevenness = 0.015 * smooth_field(normal, 64)
    solid = np.maximum(body * (1.0 + unevenness), arms(frame, anatomy))
    # 1 inside, 0 beside the body, where the beam arrives whole and burns the film black
    inside = np.minimum(solid * 8.0, 1.0)
    thickness: Field = solid - np.minimum(air + hollow, 0.9 * body) + bone * inside - 0.3 * (1.0 - inside)
    return thickness
