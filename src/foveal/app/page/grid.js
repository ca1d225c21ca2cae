// From points of the opened image to tokens and back. Pairs are (row, column); pixels are those of the network's image
// unless said otherwise. `maps` is the server's answer about a point.

/** From pixels of the network's image to those of the opened one. */
export function onOpened({ view, image_size: size }, pixel) {
  return pixel.map((at, axis) => view[axis] + (at * view[2 + axis]) / size[axis]);
}

/** Return the token map of a stage: each stage halves the sides of the one before. */
export function tokenMap(maps, stage) {
  const stride = maps.stride * 2 ** (stage - maps.stage);
  return { stride, size: maps.image_size.map((side) => Math.ceil(side / stride)) };
}

/** Return the token that stands for a point of the opened image, as the server finds it; null is the centre. */
export function tokenAt(maps, stage, point) {
  const { stride, size } = tokenMap(maps, stage);
  if (point === null) return size.map((side) => Math.floor(side / 2));
  return size.map((side, axis) => {
    const pixel = Math.floor(((point[axis] - maps.view[axis]) * maps.image_size[axis]) / maps.view[2 + axis]);
    return Math.min(Math.max(Math.floor((pixel + Math.floor(stride / 2)) / stride), 0), side - 1);
  });
}

/** Return the point of the opened image that is some tokens away from another, at most at the edge of the map. */
export function steppedPoint(maps, stage, point, step) {
  const { stride, size } = tokenMap(maps, stage);
  const moved = tokenAt(maps, stage, point).map((at, axis) => Math.min(Math.max(at + step[axis], 0), size[axis] - 1));
  return onOpened(maps, moved.map((at) => at * stride + 0.5)); // within the pixel that the token is centred on
}

/** Return where a token is marked, and the frame of its window (left, top, right, bottom) or null. */
export function marked(maps) {
  const { token, stride, size, query_edges: edges } = maps;
  const window = maps.window?.shape[0] ?? 0;
  const half = Math.floor(window / 2);
  const [top, left] = token.map((at) => Math.max(at - half, 0));
  const [bottom, right] = token.map((at, axis) => Math.min(at + half + 1, size[axis]));
  const box = window > 1 ? [edges.columns[left], edges.rows[top], edges.columns[right], edges.rows[bottom]] : null;
  return { x: token[1] * stride + 0.5, y: token[0] * stride + 0.5, box };
}
