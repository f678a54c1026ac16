// The book's one script: search, sliders, copies, and the lines of an equation beneath it where columns do not fit side by side.

const SHOWN = 12;                               // results of a search
const NARROW = 900;                             // pixels at which the code stands below the equations
const made = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

// -- search ----------------------------------------------------------------------------------------------------------

// How well an entry of the index fits a query, in lower case; 0 if it does not.
function fit([name, , title, others, words], query) {
  const own = name.toLowerCase(), named = others.toLowerCase().split(" ");
  if (own === query) return 9;
  if (named.includes(query)) return 8;
  if (own.startsWith(query)) return 7;
  if (own.includes(query)) return 6;
  if (words.split(" ").includes(query)) return 5;
  if (title.toLowerCase().includes(query)) return 4;
  if (named.some((other) => other.startsWith(query))) return 3;
  return query.length > 2 && words.split(" ").some((word) => word.startsWith(query)) ? 2 : 0;
}

// Entries that fit every word of a query, the best first.
function found(query) {
  const parts = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!parts.length || typeof INDEX === "undefined") return [];
  const ranked = INDEX.map((entry) => [Math.min(...parts.map((part) => fit(entry, part))), entry]);
  return ranked.filter(([rank]) => rank).sort((a, b) => b[0] - a[0] || a[1][0].length - b[1][0].length)
    .slice(0, SHOWN).map(([, entry]) => entry);
}

function search() {
  const input = made("input", {type: "search", id: "search", placeholder: "search  /", autocomplete: "off"});
  const list = made("ul", {id: "results", hidden: true});
  for (const [name, value] of Object.entries({role: "combobox", "aria-label": "Search the book", "aria-controls": "results",
                                              "aria-expanded": "false", "aria-autocomplete": "list"})) input.setAttribute(name, value);
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Leaves and chapters found");
  let chosen = 0;
  const choose = (at) => {
    const options = [...list.children];
    chosen = Math.max(0, Math.min(at, options.length - 1));
    options.forEach((option, i) => option.setAttribute("aria-selected", i === chosen));
    if (options[chosen]) input.setAttribute("aria-activedescendant", options[chosen].id);
    else input.removeAttribute("aria-activedescendant");
    options[chosen]?.scrollIntoView({block: "nearest"});
  };
  const show = () => {
    list.replaceChildren(...found(input.value).map(([name, file, title], i) => {
      const option = made("li", {id: "result" + i, onclick: () => { location.href = file; }}, made("b", {}, name), " ", title);
      option.setAttribute("role", "option");
      return option;
    }));
    list.hidden = !list.children.length;
    input.setAttribute("aria-expanded", !list.hidden);
    choose(0);
  };
  input.oninput = show;
  input.onfocus = show;
  input.onblur = () => setTimeout(() => { list.hidden = true; input.setAttribute("aria-expanded", false); }, 150);
  input.onkeydown = (event) => {
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen - 1);
    else if (event.key === "Enter") list.children[chosen]?.click();
    else if (event.key === "Escape") input.blur();
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    input.focus();
  });
  (document.querySelector(".search") ?? document.querySelector("header nav"))?.append(made("div", {className: "searched"}, input, list));
}

// -- sliders ---------------------------------------------------------------------------------------------------------

function slide(slider) {
  const frames = slider.querySelectorAll("g.frame"), label = slider.querySelector("label");
  const range = label.querySelector("input"), output = label.querySelector("output"), values = slider.dataset.values.split(" ");
  label.hidden = false;
  range.oninput = () => {
    frames.forEach((frame, i) => { frame.style.display = i === Number(range.value) ? "" : "none"; });
    output.textContent = values[range.value];
  };
  range.oninput();                              // a browser may remember where it stood
}

// -- copies ----------------------------------------------------------------------------------------------------------

function copies(code) {
  const button = made("button", {type: "button", className: "copy"}, "copy"), own = code.textContent;
  button.onclick = async () => {
    const lines = code.querySelectorAll(".line > .text");
    const text = lines.length ? [...lines].map((line) => line.textContent.replace(/^\u00a0$/, "")).join("\n") : own;
    try { await navigator.clipboard.writeText(text); }
    catch { getSelection().selectAllChildren(code); document.execCommand("copy"); }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  code.prepend(button);
}

// -- the lines of an equation ----------------------------------------------------------------------------------------

function opens(mark) {
  mark.addEventListener("click", (event) => {
    const row = mark.closest(".row, p.numbered"), number = mark.id.slice(1);
    if (innerWidth > NARROW || !row) return;
    event.preventDefault();
    if (row.nextElementSibling?.matches(".lines.opened")) { row.nextElementSibling.remove(); return; }
    const lines = [...document.querySelectorAll(`.line[data-n~="${number}"]`)].map((line) => {
      const copy = line.cloneNode(true);
      copy.removeAttribute("id");
      return copy;
    });
    row.after(made("div", {className: "lines opened"}, ...lines));
  });
}

// Parts that scroll can be reached from the keyboard.
function reachable() {
  document.querySelectorAll("pre, .right, .whole, .equation, .wide, article, section.code").forEach((part) => {
    if (part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1) part.tabIndex = 0;
  });
}

search();
reachable();
addEventListener("resize", reachable);
document.querySelectorAll(".slider").forEach(slide);
document.querySelectorAll(".code > .lines, article pre:not(.printed), .chapter .lines, .findings pre").forEach(copies);
document.querySelectorAll("a.eq").forEach(opens);
