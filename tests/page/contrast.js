// Of each visible text: its colour against what is painted behind it, by WCAG 2. Returns what is too faint.
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (color) => {
    // whatever the notation (oklab, color-mix): as the browser paints it
    if (!known.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((n) => (n / 255 <= 0.04045 ? n / 255 / 12.92 : ((n / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    const layers = [];
    for (let one = element; one !== null; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), rgba("Canvas"));
  };
  const opacity = (element) => {
    let all = 1;
    for (let one = element; one !== null; one = one.parentElement) all *= Number(getComputedStyle(one).opacity);
    return all;
  };
  const faint = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    if (text === "" || element.closest(":disabled, script, style, .sr-only") || !element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const size = Number.parseFloat(style.fontSize);
    const ground = behind(element);
    const svg = element instanceof SVGElement;
    const [r, g, b, a] = rgba(svg ? style.fill : style.color);
    const front = over([r, g, b, a * opacity(element)], ground);
    const [dark, light] = [luminance(front), luminance(ground)].sort((x, y) => x - y);
    const ratio = (light + 0.05) / (dark + 0.05);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed) faint.add(`${element.tagName.toLowerCase()}.${element.className}: ${ratio.toFixed(2)} of ${needed}, "${text.slice(0, 30)}"`);
  }
  return [...faint];
}
