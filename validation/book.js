// What is wrong with one document at its present width: [{row, wrong, text}].

const BLANK = /^[\s\u200b\u2060\u2061\u2062]*$/;
// Set aside by a style on purpose: links that stand beside the code, too, heads of columns that are rows now, what a click opens.
const FOLDED = ".n small, .index thead, .errors thead, details:not([open]) > :not(summary), title, style, script, [hidden]";
const COLUMNS = "article, section, aside, td, th, dd, dt, li, figure, header, footer, nav, main, body, .row, .line, .columns > *";
const WHOLE = "math, .line > *";                // looked at in one piece
const SLACK = 1.5;                              // pixels

// What is looked at: each piece of text, each formula and each of its signs, as {element, text, boxes}.
function pieces(document) {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) => {
    if (node.nodeType === Node.TEXT_NODE) return BLANK.test(node.data) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;
    if (node.matches(FOLDED)) return NodeFilter.FILTER_REJECT;
    return node.matches(WHOLE) ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_SKIP;
  });
  for (let node = walker.nextNode(), last; node; node = walker.nextNode()) {
    if (last?.contains(node)) continue;
    if (BLANK.test(node.textContent)) continue;
    const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : last = node;
    const boxes = element.localName === "math" ? [element.getBoundingClientRect()] : lines(boxes_of_text(node));
    found.push({element, text: node.textContent.trim(), boxes: boxes.filter(has_area)});
    if (element.localName === "math") found.push(...signs(element));
  }
  return found;
}

// The letters and signs of a formula; they may touch each other.
function signs(math) {
  return [...math.querySelectorAll("mi, mn, mo, mtext")].filter((element) => !BLANK.test(element.textContent)).map((element) =>
    ({element, text: math.textContent.trim(), boxes: [element.getBoundingClientRect()].filter(has_area), within: math}));
}

// The boxes of the text in a node; where spaces are kept, of its words: a space hangs out of a line that is broken there.
function boxes_of_text(node) {
  if (node.nodeType !== Node.TEXT_NODE) return [...node.childNodes].flatMap(boxes_of_text);
  const range = node.ownerDocument.createRange();
  return [...node.data.matchAll(node.parentElement.closest(".line, pre") ? /\S+/g : /\S(.*\S)?/gs)].flatMap((match) => {
    range.setStart(node, match.index);
    range.setEnd(node, match.index + match[0].length);
    return [...range.getClientRects()];
  });
}

// The boxes of one text, joined where they stand on one line.
function lines(boxes) {
  const found = new Map();
  for (const {left, right, top, bottom} of boxes.filter(has_area)) {
    const line = Math.round(bottom / 4), last = found.get(line) ?? {left, right, top, bottom};
    found.set(line, box_of(Math.min(left, last.left), Math.max(right, last.right),
                           Math.min(top, last.top), Math.max(bottom, last.bottom)));
  }
  return [...found.values()];
}

const box_of = (left, right, top, bottom) => ({left, right, top, bottom, width: right - left, height: bottom - top});

const has_area = (box) => box.width > 0.5 && box.height > 0.5;

// The number of the equation, the line of the code, or the kind of the element.
function place(element) {
  const numbered = element.closest("[data-n]"), line = element.closest(".line");
  if (line) return "line " + line.id.slice(1);
  if (numbered) return "(" + numbered.dataset.n.split(" ").join(") (") + ")";
  return element.closest("h1, h2, h3, nav, p, td, th, dd, dt, li, pre, figure, button, summary, div, body").localName;
}

// How far a box reaches out of another, in pixels.
const aside = (box, edge) => Math.max(edge.left - box.left, box.right - edge.right);
const beyond = (box, edge) => Math.max(aside(box, edge), edge.top - box.top, box.bottom - edge.bottom);

function inner(element) {
  const box = element.getBoundingClientRect(), left = box.left + element.clientLeft, top = box.top + element.clientTop;
  return {left, top, right: left + element.clientWidth, bottom: top + element.clientHeight};
}

// The columns and the clipping elements around an element, from the inside; `cache` keeps them for one width.
function around(element, cache) {
  if (!element) return [];
  if (!cache.has(element)) {
    const outside = around(element.parentElement, cache), own = holder(element);
    cache.set(element, own ? [own, ...outside] : outside);
  }
  return cache.get(element);
}

function holder(e) {
  const style = e.ownerDocument.defaultView.getComputedStyle(e), svg = e.localName === "svg";
  const can_clip = !/^(inline|table-cell)$/.test(style.display) && e !== e.ownerDocument.body;
  const clips = svg || style.overflowX !== "visible" && can_clip;
  if (!clips && !e.matches(COLUMNS)) return null;
  return {name: e.localName, clips, svg, box: clips && !svg ? inner(e) : e.getBoundingClientRect(),
    sideways: scrolls(style.overflowX, e.offsetHeight - e.clientHeight),
    down: scrolls(style.overflowY, e.offsetWidth - e.clientWidth),
    held: !svg && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)};
}

function scrolls(overflow, bar) {
  if (overflow !== "auto" && overflow !== "scroll") return "";
  return bar < 4 ? ", and no bar shows that it scrolls" : "bar";
}

// The part of a box that can be seen without scrolling, or what is wrong with it.
function seen(piece, box, view, cache) {
  let {left, right, top, bottom} = box, held = false;
  for (const e of around(piece.element, cache)) {
    const out = Math.round(e.clips ? beyond(box, e.box) : aside(box, e.box));
    if (!held && !e.clips && out > SLACK) return {wrong: `it leaves its column, <${e.name}>, by ${out} px`};
    if (!e.clips) continue;
    if (!held && out > SLACK) {
      const how = e.svg ? "" : aside(box, e.box) > SLACK ? e.sideways : e.down;
      if (how !== "bar") return {wrong: `it is cut by ${out} px${how}`};
    }
    left = Math.max(left, e.box.left); right = Math.min(right, e.box.right);
    top = Math.max(top, e.box.top); bottom = Math.min(bottom, e.box.bottom);
    held ||= e.held;
  }
  if (!held && (box.left < -SLACK || box.right > view.innerWidth + SLACK)) return {wrong: "it leaves the window"};
  return {left, right, top, bottom};
}

// The element that is painted over a piece at one of its points.
function covered(piece, part, document, view) {
  const y = (part.top + part.bottom) / 2, width = part.right - part.left;
  if (y < view.scrollY || y > view.scrollY + view.innerHeight) view.scrollTo(0, y > view.innerHeight ? y : 0);
  const points = (width > 60 ? [0.02, 0.5, 0.98] : [0.5]).map((share) => [part.left + share * width, y - view.scrollY]);
  const apart = (top) => !top?.contains(piece.element) && !piece.element.contains(top);
  return points.filter(([left, top]) => apart(document.elementFromPoint(left, top)))
    .map(([left, top]) => at_point(document, left, top)).find(apart);
}

// The topmost element whose box holds a point: between the boxes of a line the browser names the next.
function at_point(document, left, top) {
  return document.elementsFromPoint(left, top).find((e) => [...e.getClientRects()].some((box) =>
    box.left <= left && left <= box.right && box.top <= top && top <= box.bottom)) ?? null;
}

// Pairs of pieces whose boxes overlap.
function overlaps(parts) {
  const found = [], order = parts.sort((a, b) => a.top - b.top);
  for (let i = 0; i < order.length; i++)
    for (let j = i + 1; j < order.length && order[j].top < order[i].bottom - 2 * SLACK; j++) {
      const a = order[i], b = order[j];
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left), height = Math.min(a.bottom, b.bottom) - b.top;
      if (width > SLACK && height > 2 * SLACK) found.push([a, b]);
    }
  return found;
}

function measure(frame) {
  const document = frame.contentDocument, view = frame.contentWindow, found = [], parts = [];
  const report = ({element, text}, wrong) => found.push(
    {row: place(element), wrong, text: text.replace(/\s+/g, " ").slice(0, 60)});
  const cache = new Map(), wrong = new Set();
  const fails = (piece, what) => {              // one finding for each formula
    if (!wrong.has(piece.within)) report(piece, what);
    wrong.add(piece.within ?? piece.element);
  };
  for (const piece of pieces(document)) {
    if (!piece.boxes.length) fails(piece, "it is not shown");
    for (const box of piece.boxes) {
      const part = seen(piece, box, view, cache);
      if (part.wrong) { fails(piece, part.wrong); break; }
      if (part.right - part.left >= 1 && part.bottom - part.top >= 1) parts.push({piece, ...part});        // not scrolled away
    }
  }
  for (const part of parts) {                   // scrolls, and so must come last
    const over = covered(part.piece, part, document, view);
    if (over !== undefined) fails(part.piece, (over ? `<${over.localName}> of ${place(over)}` : "something") + " covers it");
  }
  view.scrollTo(0, 0);
  for (const row of document.querySelectorAll("[data-n], p, .line, tbody > tr"))
    if (!row.closest("details:not([open])") && !has_area(row.getBoundingClientRect()))
      report({element: row, text: row.textContent}, "its row is not shown");
  for (const math of document.querySelectorAll("math, code")) {
    const then = math.nextSibling, box = math.getBoundingClientRect();
    if (then?.nodeType !== Node.TEXT_NODE || !/^[,.;:)]/.test(then.data) || !has_area(box)) continue;
    const [first] = boxes_of_text(then);
    if (first && first.top > box.bottom)
      report({element: math, text: math.textContent + then.data}, "a line begins with its punctuation");
  }
  for (const [a, b] of overlaps(parts.filter((part) => !part.piece.within)))
    report(b.piece, "it lies over " + JSON.stringify(a.piece.text.slice(0, 30)));
  if (document.documentElement.scrollWidth > view.innerWidth)
    report({element: document.body, text: document.title}, "the page scrolls sideways");
  return {found, looked_at: parts.length};
}

// What axe-core finds against the rules of accessibility in a document that holds its script: [{row, wrong, text}].
async function violations(frame) {
  const {violations} = await frame.contentWindow.axe.run(frame.contentDocument);
  return violations.flatMap(({id, help, nodes}) => nodes.map((node) => ({row: id, wrong: help, text: node.html.slice(0, 120)})));
}

async function measure_all(texts, widths, height, with_axe) {
  const frame = document.querySelector("iframe"), results = [];
  frame.style.height = height + "px";
  for (const [name, text] of Object.entries(texts)) {
    frame.style.width = widths[0] + "px";
    await new Promise((loaded) => { frame.onload = loaded; frame.srcdoc = text; });
    for (const width of widths) {
      frame.style.width = width + "px";
      const found = with_axe ? {found: await violations(frame), looked_at: 1} : measure(frame);
      results.push({leaf: name, width, ...found});
    }
  }
  document.querySelector("#results").textContent = JSON.stringify(results);
}
