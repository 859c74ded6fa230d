// Places for names, so that none covers another.

/** @typedef {{x: number, y: number, width: number, height: number}} Place the left upper corner, and the size */

const STEP = 6;
const REACH = 480;
const OFFSETS = offsets();

/**
 * The place nearest to the wanted one that nothing covers; where there is none, the one that is covered least.
 * @param {Place} wanted
 * @param {Place[]} taken
 * @param {number} width of the picture
 * @param {number} height
 * @returns {Place}
 */
export function freePlace(wanted, taken, width, height) {
  const right = Math.max(0, width - wanted.width);
  const bottom = Math.max(0, height - wanted.height);
  const first = { ...wanted, x: Math.min(Math.max(wanted.x, 0), right), y: Math.min(Math.max(wanted.y, 0), bottom) };
  let best = first;
  let least = covered(first, taken);
  for (const [across, down] of OFFSETS) {
    if (least === 0) break;
    const place = { ...first, x: first.x + across, y: first.y + down };
    if (place.x < 0 || place.y < 0 || place.x > right || place.y > bottom) continue;
    const area = covered(place, taken);
    if (area < least) [best, least] = [place, area];
  }
  return best;
}

/**
 * How much of a place is covered by others, in square pixels.
 * @param {Place} place
 * @param {Place[]} others
 */
export function covered(place, others) {
  let area = 0;
  for (const other of others) {
    const width = Math.min(place.x + place.width, other.x + other.width) - Math.max(place.x, other.x);
    const height = Math.min(place.y + place.height, other.y + other.height) - Math.max(place.y, other.y);
    if (width > 0 && height > 0) area += width * height;
  }
  return area;
}

/**
 * The ways to move, the shortest first; to the side rather than up or down, where a name may seem to be another's.
 * @returns {[number, number][]}
 */
function offsets() {
  /** @type {[number, number][]} */
  const ways = [];
  for (let across = -REACH; across <= REACH; across += STEP) {
    for (let down = -REACH; down <= REACH; down += STEP) ways.push([across, down]);
  }
  const length = (/** @type {[number, number]} */ [across, down]) => Math.abs(across) + 2 * Math.abs(down);
  return ways.sort((a, b) => length(a) - length(b));
}
