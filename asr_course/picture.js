// A picture that can be dragged, clicked and moved with the arrow keys; see picture.py.

function render({ model, el }) {
  const img = document.createElement("img");
  img.className = "asr-picture";
  img.tabIndex = 0;
  img.draggable = false;
  Object.assign(img.style, {
    width: "100%", maxWidth: "1000px", imageRendering: "pixelated", cursor: "grab",
    touchAction: "none", display: "block",
  });
  el.appendChild(img);
  let url = null;
  function draw() {
    const data = model.get("data");
    if (!data || !data.byteLength) return;
    const old = url;
    url = URL.createObjectURL(new Blob([data], { type: "image/png" }));
    img.src = url;
    img.onload = () => { if (old) URL.revokeObjectURL(old); };
    img.dataset.version = String(Number(img.dataset.version || 0) + 1);
  }
  function describe() { img.alt = model.get("alt"); }
  function wait() {
    img.setAttribute("aria-busy", model.get("busy"));
    img.style.cursor = model.get("busy") ? "progress" : "grab";
  }
  model.on("change:data", draw);
  model.on("change:alt", describe);
  model.on("change:busy", wait);
  draw(); describe(); wait();
  let from = null, waiting = false, latest = null;
  function flush() {
    waiting = false;
    if (latest) model.send(latest);
    latest = null;
  }
  img.addEventListener("pointerdown", (e) => {
    from = { x: e.clientX, y: e.clientY, moved: false };
    img.setPointerCapture(e.pointerId);
    img.focus({ preventScroll: true });
    model.send({ type: "drag", rows: 0, cols: 0, start: true });
  });
  img.addEventListener("pointermove", (e) => {
    if (!from) return;
    const dx = e.clientX - from.x, dy = e.clientY - from.y;
    if (Math.abs(dx) + Math.abs(dy) > 3) from.moved = true;
    latest = { type: "drag", rows: dy / img.clientHeight,
               cols: dx / img.clientWidth, start: false };
    if (!waiting) { waiting = true; requestAnimationFrame(flush); }
  });
  img.addEventListener("pointerup", (e) => {
    if (from && !from.moved) {
      const box = img.getBoundingClientRect();
      model.send({ type: "click", row: (e.clientY - box.top) / box.height,
                   col: (e.clientX - box.left) / box.width });
    }
    from = null;
  });
  const keys = { ArrowUp: [-1, 0], ArrowDown: [1, 0],
                 ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  img.addEventListener("keydown", (e) => {
    if (!(e.key in keys)) return;
    e.preventDefault(); e.stopPropagation();
    const [rows, cols] = keys[e.key];
    model.send({ type: "key", rows, cols });
  });
  return () => { if (url) URL.revokeObjectURL(url); };
}
export default { render };
