// The explorer on the website: a worker in the place of a notebook's kernel. Every
// <div class="asr-live" data-models='{"LIIF": "liif", ...}'> of a page becomes one as
// soon as it comes into sight. What stands in it already is for browsers that cannot.

import { mount } from "./explorer.js";

const HERE = new URL("./", import.meta.url);
const LARGEST = 768; // rows and columns that are kept of a photograph
const FIRST = { number: 0, scale: 4, left: "bicubic", centre: [0.22, 0.42], side: 256,
  seed: 0, whole: false, shrink: true };

// The pixels of a picture file: {rows, cols, data: RGBA bytes}, transparency on white.
async function pixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const by = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [cols, rows] = [bitmap.width, bitmap.height].map((n) => Math.max(1, Math.round(n * by)));
  const context = Object.assign(document.createElement("canvas"), { width: cols, height: rows }).getContext("2d");
  Object.assign(context, { fillStyle: "#fff", imageSmoothingQuality: "high" });
  context.fillRect(0, 0, cols, rows);
  context.drawImage(bitmap, 0, 0, cols, rows);
  return { rows, cols, data: context.getImageData(0, 0, cols, rows).data };
}

// models: {label: folder}; bar: shows how much of a file has come.
export function decoder(models, bar) {
  const names = Object.keys(models), request = { ...FIRST, right: names[0] };
  let worker, hear, latest = request, done = -1;
  const fail = (error) => hear({ type: "error", number: latest.number, text: String(error.message || error) });
  function ask(next) {
    latest = next;
    worker.postMessage({ request: { ...next, models } });
    setTimeout(() => { // before the explorer guesses that there is no kernel
      if (latest === next && done < next.number)
        hear({ type: "progress", number: next.number, text: "still working …" });
    }, 2500);
  }
  async function begin() {
    const [files, photo] = await Promise.all(["files.json", "photo.png"].map((name) =>
      fetch(new URL(name, HERE)).then((answer) => (answer.ok ? answer : Promise.reject(new Error(`${name} is missing`))))));
    worker.postMessage({ files: await files.json(), photo: await pixels(await photo.blob()) });
    ask(latest);
  }
  return {
    about: { names, nonlocal: [], generative: [], upload: true },
    request,
    ask,
    async photo(file) {
      try {
        worker.postMessage({ photo: await pixels(file) });
        ask({ ...latest, number: latest.number + 1, shrink: false, centre: [0.5, 0.5] });
      } catch {
        fail(new Error(`${file.name} is no picture that this browser can read. Choose a PNG or a JPEG.`));
      }
    },
    listen(listener) {
      hear = listener;
      worker = new Worker(new URL("worker.js", HERE), { type: "module" });
      worker.onmessage = ({ data }) => {
        if (["view", "error"].includes(data.type)) done = data.number;
        bar.hidden = !(data.done < 1);
        bar.value = data.done || 0;
        hear(data);
      };
      worker.onerror = (event) => fail(new Error(event.message || "The worker of this page does not start."));
      hear({ type: "progress", number: 0, text: "loading …" });
      begin().catch(fail);
      return () => worker.terminate();
    },
  };
}

export function start(place) {
  const instead = [...place.childNodes], sheet = place.closest(".cell_output");
  const bar = Object.assign(document.createElement("progress"), { max: 1, hidden: true, className: "asr-bar" });
  const root = document.createElement("div");
  place.replaceChildren(root, bar);
  const folded = document.createElement("details");
  folded.innerHTML = "<summary>The same at five scales, as one picture</summary>";
  if (sheet) folded.append(...sheet.querySelectorAll(":scope > :is(img, :has(img)):not(:has(.asr-live))"));
  else folded.append(...instead.filter((node) => node.nodeName === "IMG"));
  if (folded.children.length > 1) place.append(folded);
  return mount(root, decoder(JSON.parse(place.dataset.models), bar));
}

const can = typeof WebAssembly === "object" && typeof Worker === "function" && "createImageBitmap" in window;
const watch = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
  if (isIntersecting) watch.unobserve(target);
  if (isIntersecting) start(target);
}), { rootMargin: "200px" });
if (can) document.querySelectorAll(".asr-live").forEach((place) => watch.observe(place));
