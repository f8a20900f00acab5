// Conveniences alone: without this file the form works as a form.
"use strict";

document.documentElement.classList.add("scripted");
const drop = document.querySelector("form.drop");
const choose = document.querySelector("form.choose");

if (drop) {
  const input = drop.elements.film;
  const button = drop.querySelector("button");
  const said = drop.querySelector(".said");
  const limit = Number(drop.dataset.maxMb) * 1e6;

  const say = (words, wrong) => {
    said.textContent = words;
    said.classList.toggle("wrong", wrong);
  };

  const send = () => {
    const film = input.files[0];
    if (!film) return;
    if (film.size > limit) {
      say(`${film.name} has ${(film.size / 1e6).toFixed(1)} MB: at most ${drop.dataset.maxMb} MB are read.`, true);
      drop.reset();
      return;
    }
    drop.requestSubmit();
  };

  drop.addEventListener("submit", (event) => {
    if (input.files[0] && input.files[0].size > limit) {
      event.preventDefault();
      send();
      return;
    }
    say(`Asking about ${input.files[0].name} …`, false);
    button.disabled = true;
  });
  input.addEventListener("change", send);

  // A film that misses the field must not replace the page.
  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer && event.dataTransfer.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    drop.classList.add("over");
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) drop.classList.remove("over");
  });
  addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    if (event.dataTransfer.files.length !== 1) {
      say("One film at a time, please.", true);
      return;
    }
    input.files = event.dataTransfer.files;
    send();
  });

  // Back from the answer: the form is as it was.
  addEventListener("pageshow", () => {
    button.disabled = false;
    say("", false);
  });
}

if (choose) {
  choose.elements.run.addEventListener("change", () => choose.requestSubmit());
}
