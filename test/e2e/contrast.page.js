/*
 * Evaluated in a page. The visible texts whose contrast with what is behind them is below WCAG 2.2 AA (4.5; 3 for large text), as
 * `ratio text`: reckoned from computed colours, opacity and see-through backgrounds included.
 */
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });

  function parse(colour) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  }
  const over = ([r, g, b, alpha], under) => [
    r * alpha + under[0] * (1 - alpha),
    g * alpha + under[1] * (1 - alpha),
    b * alpha + under[2] * (1 - alpha),
    1,
  ];
  function behind(element) {
    const layers = [];
    for (let it = element; it; it = it.parentElement)
      layers.push(parse(getComputedStyle(it).backgroundColor));
    return layers.reduceRight((under, layer) => over(layer, under), [255, 255, 255, 1]);
  }
  function luminance(colour) {
    const [r, g, b] = colour
      .slice(0, 3)
      .map((it) => it / 255)
      .map((it) => (it <= 0.03928 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function ratio(element, pseudo) {
    const text = parse(getComputedStyle(element, pseudo).color);
    for (let it = element; it; it = it.parentElement) text[3] *= Number(getComputedStyle(it).opacity);
    const ground = behind(element);
    const [bright, dark] = [luminance(over(text, ground)), luminance(ground)].sort((a, b) => b - a);
    return (bright + 0.05) / (dark + 0.05);
  }

  const found = new Set();
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.matches('.unseen')) continue;
    const words = [...element.childNodes].filter((it) => it.nodeType === Node.TEXT_NODE);
    const text = words
      .map((it) => it.textContent)
      .join('')
      .trim();
    const { fontSize, fontWeight } = getComputedStyle(element);
    const large = Number.parseFloat(fontSize) >= (Number(fontWeight) >= 700 ? 18.66 : 24);
    if (text !== '' && ratio(element) < (large ? 3 : 4.5))
      found.add(`${ratio(element).toFixed(2)} ${element.tagName}.${element.className} ${text}`);
    if (element instanceof HTMLInputElement && ratio(element, '::placeholder') < 4.5)
      found.add(`${ratio(element, '::placeholder').toFixed(2)} ${element.placeholder}`);
  }
  return [...found];
})();
