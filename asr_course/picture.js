// A picture of its own size in which a place can be chosen; see picture.py.

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const USE = "click, or use the arrow keys";

// In JupyterLab's command mode a letter alone adds, cuts or deletes cells.
function isCommand(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return false;
  const plain = e.key.length === 1 || e.key === "Backspace" || e.key === "Delete";
  return plain || (e.key === "Enter" && !e.shiftKey);
}

function render({ model, el }) {
  const box = document.createElement("div"), img = document.createElement("img");
  const mark = document.createElement("div");
  img.className = "asr-picture";
  img.setAttribute("role", "img");
  img.draggable = false;
  Object.assign(box.style, { position: "relative", width: "fit-content", maxWidth: "100%" });
  Object.assign(img.style, { display: "block", maxWidth: "100%", height: "auto" });
  Object.assign(mark.style, {
    position: "absolute", width: "8px", height: "8px", borderRadius: "50%", pointerEvents: "none",
    transform: "translate(-50%, -50%)", border: "2px solid white", outline: "2px solid black",
  });
  box.append(img, mark);
  el.appendChild(box);

  // Pixels are repeated if each of them takes a whole number of the screen's, as on a
  // screen of twice the density. If the picture must shrink, it is smoothed.
  function sharpen() {
    const times = img.clientWidth * window.devicePixelRatio / img.naturalWidth;
    img.style.imageRendering = Number.isInteger(times) ? "pixelated" : "auto";
  }
  const resized = new ResizeObserver(sharpen);
  resized.observe(img);

  let url = null;
  function draw() {
    const data = model.get("data");
    if (!data || !data.byteLength) return;
    const old = url;
    url = URL.createObjectURL(new Blob([data], { type: "image/png" }));
    img.src = url;
    img.onload = () => { sharpen(); if (old) URL.revokeObjectURL(old); };
    img.dataset.version = String(Number(img.dataset.version || 0) + 1);
  }
  function describe() {
    const asks = model.get("chooses"), [row, col] = model.get("place");
    img.alt = model.get("alt");
    img.style.cursor = asks ? "crosshair" : "auto";
    img.title = asks ? USE : "";
    img.tabIndex = asks ? 0 : -1;
    mark.hidden = !(asks && model.get("marked"));
    mark.style.display = mark.hidden ? "none" : "block";
    Object.assign(mark.style, { top: `${100 * row}%`, left: `${100 * col}%` });
  }
  model.on("change:data", draw);
  for (const name of ["alt", "chooses", "place", "marked"]) model.on(`change:${name}`, describe);
  draw(); describe();

  // A step ends half a step before the border, in the middle of the last pixel.
  function look(place, margin = [0, 0]) {
    const inside = (x, k) => Math.min(Math.max(x, margin[k]), 1 - margin[k]);
    model.set("place", place.map(inside));
    model.save_changes();
  }
  img.addEventListener("click", (e) => {
    if (!model.get("chooses")) return;
    const { top, left, height, width } = img.getBoundingClientRect();
    img.focus({ preventScroll: true });
    look([(e.clientY - top) / height, (e.clientX - left) / width]);
  });
  img.addEventListener("keydown", (e) => {
    if (isCommand(e)) e.stopPropagation();
    if (!(e.key in ARROWS) || !model.get("chooses")) return;
    e.preventDefault(); e.stopPropagation();
    const place = model.get("place"), step = model.get("step");
    look(place.map((x, k) => x + ARROWS[e.key][k] * step[k]), step.map((x) => x / 2));
  });
  return () => { resized.disconnect(); if (url) URL.revokeObjectURL(url); };
}
export default { render };
