/**
 * Where, in a run of ascending ids, those above an id begin.
 * @param low the first index of the run; `high`: the index behind its last
 * @param idAt the id at an index
 * @returns `high` if there is none
 */
export function indexAfter(id: number, low: number, high: number, idAt: (index: number) => number): number {
  let [from, to] = [low, high];
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (idAt(middle) <= id) from = middle + 1;
    else to = middle;
  }
  return from;
}
