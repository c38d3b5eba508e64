// Draws points on a canvas, and finds which of them lie within a line that was drawn around them.

/** The box of the points, with a margin: {left, top, width, height} in their own units. */
export function box(points) {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  if (!points.length) return { left: -1, top: -1, width: 2, height: 2 };
  const margin = 0.05 * Math.max(right - left, bottom - top, 0.001);
  return { left: left - margin, top: top - margin, width: right - left + 2 * margin, height: bottom - top + 2 * margin };
}

/** How places become pixels of a canvas: {toPixel(point), toPlace([x, y])}, with the same scale on both axes. */
export function projection(view, width, height) {
  const scale = Math.min(width / view.width, height / view.height);
  const [dx, dy] = [(width - view.width * scale) / 2, (height - view.height * scale) / 2];
  return {
    toPixel: ({ x, y }) => [dx + (x - view.left) * scale, dy + (y - view.top) * scale],
    toPlace: ([px, py]) => ({ x: (px - dx) / scale + view.left, y: (py - dy) / scale + view.top }),
  };
}

/** Whether a point lies within a closed line of points (the rule of even and odd crossings). */
export function within({ x, y }, line) {
  let inside = false;
  for (let at = 0, before = line.length - 1; at < line.length; before = at, at += 1) {
    const [a, b] = [line[at], line[before]];
    if (a.y > y !== b.y > y && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}

/** Draw the points, the line around some of them, and rings around those that are chosen. */
export function draw(canvas, { points, colour, chosen, line, view, lineColour }) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { toPixel } = projection(view, width, height);
  const size = points.length > 1500 ? 2 : 3.5;
  context.globalAlpha = 0.8;
  for (const point of points) {
    const [x, y] = toPixel(point);
    const marked = chosen?.has(point.id);
    context.globalAlpha = chosen && !marked ? 0.25 : 0.85;
    context.fillStyle = colour(point);
    context.beginPath();
    context.arc(x, y, marked ? size + 1 : size, 0, 2 * Math.PI);
    context.fill();
  }
  context.globalAlpha = 1;
  if (line?.length > 1) {
    context.strokeStyle = lineColour;
    context.setLineDash([5, 4]);
    context.beginPath();
    for (const place of line) context.lineTo(...toPixel(place));
    context.closePath();
    context.stroke();
  }
}
