(() => {
  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // values of curves under the pointer
  const tip = document.body.appendChild(make("div", "tip"));
  tip.hidden = true;
  for (const svg of document.querySelectorAll("svg[data-lines]")) {
    const parts = JSON.parse(svg.dataset.lines);
    const marks = svg.appendChild(document.createElementNS(svg.namespaceURI, "g"));
    const leave = () => { tip.hidden = true; marks.replaceChildren(); };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", event => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const part = parts.find(({box: [l, t, r, b]}) => at.x >= l - 4 && at.x <= r + 4 && at.y >= t && at.y <= b);
      if (!part) return leave();
      const near = part.lines.map(line => [line, line.points.reduce(
        (best, point) => Math.abs(point[0] - at.x) < Math.abs(best[0] - at.x) ? point : best)]);
      const x = near.reduce((best, one) => Math.abs(one[1][0] - at.x) < Math.abs(best[1][0] - at.x) ? one : best)[1];
      const shown = near.filter(([, point]) => Math.abs(point[0] - x[0]) < 6);
      tip.replaceChildren(make("b", "", `${part.x} ${x[2]}`));
      marks.replaceChildren();
      for (const [line, point] of shown) {
        const row = make("div", "", `${line.name} `);
        row.append(make("b", "", point[3]));
        row.style.borderColor = line.color;
        tip.append(row);
        const dot = marks.appendChild(document.createElementNS(svg.namespaceURI, "circle"));
        for (const [name, value] of Object.entries({cx: point[0], cy: point[1], r: 3})) dot.setAttribute(name, value);
        dot.style.fill = line.color;
      }
      tip.hidden = false;
      const right = event.clientX + 14 + tip.offsetWidth > document.documentElement.clientWidth;
      tip.style.left = `${event.pageX + (right ? -14 - tip.offsetWidth : 14)}px`;
      tip.style.top = `${event.pageY + 14}px`;
    });
  }

  // tables: sorted by a column, saved for papers
  const shown = cell => {
    const range = cell.querySelector("small"), value = cell.querySelector("b");
    const text = (value || cell).textContent.replace(/\s+/g, " ").trim();
    return value && range ? `${text} [${range.textContent.trim()}]` : text;
  };
  const grid = table => {
    let part = "";
    const rows = [];
    const parts = table.querySelector("tr.part");
    for (const row of table.rows) {
      const cells = [...row.cells].map(shown);
      if (row.classList.contains("part")) { part = cells[0]; continue; }
      rows.push(parts ? [rows.length ? part : "queries", ...cells] : cells);
    }
    return rows;
  };
  const latex = text => text.replace(/[\\&%$#_{}~^]/g, sign =>
    ({"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"})[sign] || `\\${sign}`)
    .replaceAll("▲", "$\\blacktriangle$").replaceAll("▼", "$\\blacktriangledown$")
    .replaceAll("−", "$-$").replaceAll("–", "--").replaceAll("τ", "$\\tau$");
  const kinds = {
    csv: rows => rows.map(row => row.map(text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text).join(",")),
    md: rows => rows.map(row => `| ${row.map(text => text.replaceAll("|", "\\|")).join(" | ")} |`)
      .toSpliced(1, 0, `|${" --- |".repeat(rows[0].length)}`),
    tex: ([head, ...rows]) => [`\\begin{tabular}{l${"r".repeat(head.length - 1)}}`, "\\toprule",
      `${head.map(latex).join(" & ")} \\\\`, "\\midrule",
      ...rows.map(row => `${row.map(latex).join(" & ")} \\\\`), "\\bottomrule", "\\end{tabular}"],
  };
  for (const box of document.querySelectorAll(".scroll")) {
    const table = box.querySelector("table"), bar = make("p", "save", "Save as ");
    for (const [kind, write] of Object.entries(kinds)) {
      const button = bar.appendChild(make("button", "", {csv: "CSV", md: "Markdown", tex: "LaTeX"}[kind]));
      button.type = "button";
      button.addEventListener("click", () => {
        const link = make("a");
        link.href = URL.createObjectURL(new Blob([write(grid(table)).join("\n") + "\n"]));
        link.download = `${box.getAttribute("aria-label").toLowerCase().replaceAll(/\W+/g, "-")}.${kind}`;
        link.click();
        URL.revokeObjectURL(link.href);
      });
    }
    box.after(bar);
    const mark = () => box.classList.toggle("cut", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
    mark();
    box.addEventListener("scroll", mark);
    new ResizeObserver(mark).observe(box);
    if (!table.classList.contains("sorted")) continue;
    const number = text => parseFloat(text.replaceAll(",", "").replace("−", "-"));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", "", head.textContent);
      head.replaceChildren(button);
      button.type = "button";
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = row => shown(row.cells[column]);
        const order = (a, b) => {
          const [p, q] = [number(value(a)), number(value(b))];
          return isNaN(p) || isNaN(q) ? value(b).localeCompare(value(a)) : q - p;
        };
        const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? 1 : -1) * order(a, b));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // queries to browse
  const stored = document.getElementById("browse");
  if (!stored) return;
  const data = JSON.parse(stored.textContent), list = document.querySelector(".queries");
  if (data.sheet) document.head.append(make("style", "", `.tile{background-image:url(${data.sheet})}`));
  const picture = (place, text) => {
    const tile = make("span", "tile");
    tile.setAttribute("role", "img");
    tile.setAttribute("aria-label", text);
    tile.title = text;
    const at = unit => -unit * data.tile;
    tile.style.backgroundPosition = `${at(place % data.columns)}px ${at(Math.floor(place / data.columns))}px`;
    return tile;
  };
  const form = make("form", "browse");
  const choice = (label, options) => {
    const box = form.appendChild(make("label", "", label)), select = box.appendChild(make("select"));
    options.forEach(([value, text]) => select.add(new Option(text, value)));
    box.hidden = options.length < 2;
    return select;
  };
  const found = form.appendChild(make("label", "wide", "Search")).appendChild(make("input"));
  found.type = "search";
  found.placeholder = "words of a caption or class";
  const way = choice("Direction", data.ways.map(({name}, i) => [i, name]));
  const runs = data.runs.map((name, i) => [i, name]);
  const pairs = runs.flatMap(([a, x]) => runs.filter(([b]) => a !== b && (runs.length < 5 || !a || !b))
    .map(([b, y]) => [`${a}>${b}`, `${x} right, ${y} wrong`]));
  const outcome = choice("First answer", [["", "right or wrong"], ...runs.map(([i, name]) => [`-${i}`, `wrong: ${name}`]),
    ...(runs.length > 1 ? [["all", "wrong in every run"], ["changed", "changed between runs"]] : []), ...pairs]);
  const of = place => [...new Set(data.ways.flatMap(one => one.queries.map(query => query[place])))].filter(Boolean);
  const group = choice("Group", [["", "all"], ...of(2).map(name => [name, name])]);
  const label = choice("Class", [["", "all"], ...of(3).sort().map(name => [name, name])]);
  const count = make("p", "small"), more = make("button", "more", "Show more");
  more.type = "button";
  let shownSoFar = 0, hits = [];
  const answer = (one, i, run) => {
    const box = make("div", "answer"), who = box.appendChild(make("p", "who", data.runs[run]));
    const rank = one.runs[run].ranks[i], items = make("ol");
    who.append(make("small", "", rank ? `first right: rank ${rank.toLocaleString("en")}` : "none is right"));
    for (let k = 0; k < one.runs[run].top; k++) {
      const code = one.runs[run].found[i * one.runs[run].top + k], [text, place] = one.names[code >> 1];
      const item = items.appendChild(make("li", code & 1 ? "right" : "wrong"));
      item.append(place < 0 ? make("em", "", text) : picture(place, text), make("span", "mark", code & 1 ? "✓" : "✗"));
      if (place < 0) item.classList.add("words");
    }
    box.append(items);
    return box;
  };
  const extend = () => {
    const one = data.ways[way.value];
    for (const i of hits.slice(shownSoFar, shownSoFar + 12)) {
      const [text, place, name, kind] = one.queries[i], card = make("article", "query"), head = make("h3");
      if (place >= 0) head.append(picture(place, text));
      head.append(make("span", "", text));
      for (const tag of [name, kind === text ? "" : kind]) if (tag) head.append(make("small", "tag", tag));
      card.append(head, ...data.runs.map((_, run) => answer(one, i, run)));
      list.append(card);
    }
    shownSoFar += 12;
    more.hidden = shownSoFar >= hits.length;
  };
  const update = () => {
    const one = data.ways[way.value], words = found.value.toLowerCase().split(/\s+/).filter(Boolean);
    const right = (i, run) => one.runs[run].found[i * one.runs[run].top] & 1;
    const wanted = i => {
      const rule = outcome.value, all = data.runs.map((_, run) => right(i, run));
      if (!rule) return true;
      if (rule === "all") return !all.some(Boolean);
      if (rule === "changed") return all.some(Boolean) && !all.every(Boolean);
      if (rule[0] === "-") return !all[rule.slice(1)];
      const [a, b] = rule.split(">");
      return all[a] && !all[b];
    };
    hits = one.queries.map((_, i) => i).filter(i => {
      const [text, , name, kind] = one.queries[i], whole = `${text} ${kind}`.toLowerCase();
      return words.every(word => whole.includes(word)) && (!group.value || name === group.value)
        && (!label.value || kind === label.value) && wanted(i);
    });
    count.textContent = `${hits.length.toLocaleString("en")} of ${one.queries.length.toLocaleString("en")} queries`;
    list.replaceChildren();
    shownSoFar = 0;
    extend();
  };
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", update);
  addEventListener("hashchange", () => {
    const asked = location.hash.match(/^#query=(.*)$/);
    if (asked) { found.value = decodeURIComponent(asked[1]); update(); form.scrollIntoView(); }
  });
  more.addEventListener("click", extend);
  more.hidden = true;
  list.before(form, count);
  list.after(more);
  count.textContent = "Drawn by chance from each group; search or choose above to browse all.";
  if (location.hash.startsWith("#query=")) dispatchEvent(new HashChangeEvent("hashchange"));
})();
