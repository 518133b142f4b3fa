// Bicubic resizing as Pillow does it, bit for bit: a = -1/2, wider where it shrinks,
// 8-bit results after rows and after columns. image: {rows, cols, data: RGBA bytes}.

const BITS = 22; // of the fractions that Pillow keeps of its weights

function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// For outputs first ... first + count of `size`: [first input, weights of inputs].
function weights(inputs, size, first, count) {
  const scale = inputs / size, wide = Math.max(scale, 1), support = 2 * wide;
  return Array.from({ length: count }, (_, k) => {
    const centre = (first + k + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const stop = Math.min(inputs, Math.trunc(centre + support + 0.5));
    const list = [];
    for (let i = start; i < stop; i++) list.push(cubic((i - centre + 0.5) / wide));
    const sum = list.reduce((a, b) => a + b);
    return [start, list.map((w) => {
      const exact = (w / sum) * 2 ** BITS;
      return Math.trunc(exact < 0 ? exact - 0.5 : exact + 0.5);
    })];
  });
}

// The window [row, col, rows, cols] of `image` resized to size = [rows, cols].
export function resize(image, size, [top, left, rows, cols] = [0, 0, ...size]) {
  const across = weights(image.cols, size[1], left, cols);
  const down = weights(image.rows, size[0], top, rows);
  const begin = down[0][0], end = down[rows - 1][0] + down[rows - 1][1].length;
  const half = 2 ** (BITS - 1);
  const narrow = new Uint8ClampedArray((end - begin) * cols * 4);
  const data = new Uint8ClampedArray(rows * cols * 4).fill(255);
  for (let r = begin; r < end; r++)
    for (let c = 0; c < cols; c++) {
      const [start, list] = across[c];
      for (let k = 0; k < 3; k++) {
        let sum = half;
        for (let i = 0; i < list.length; i++)
          sum += image.data[4 * (r * image.cols + start + i) + k] * list[i];
        narrow[4 * ((r - begin) * cols + c) + k] = sum >> BITS;
      }
    }
  for (let r = 0; r < rows; r++) {
    const [start, list] = down[r];
    for (let c = 0; c < cols; c++)
      for (let k = 0; k < 3; k++) {
        let sum = half;
        for (let i = 0; i < list.length; i++)
          sum += narrow[4 * ((start + i - begin) * cols + c) + k] * list[i];
        data[4 * (r * cols + c) + k] = sum >> BITS;
      }
  }
  return { rows, cols, data };
}
