// The line between this page and the service, which can be cut: what goes over it breaks off, and nothing new gets through.

export function createLine() {
  const open = new Set();
  let isCut = false;

  return {
    /** As `fetch`, over this line. */
    async fetch(input, init = {}) {
      if (isCut) throw new TypeError('the line is cut');
      const breaking = new AbortController();
      const end = () => breaking.abort();
      open.add(end);
      init.signal?.addEventListener('abort', () => {
        open.delete(end);
        breaking.abort();
      });
      return fetch(input, { ...init, signal: breaking.signal });
    },
    cut() {
      isCut = true;
      for (const end of open) end();
      open.clear();
    },
    mend() {
      isCut = false;
    },
  };
}
