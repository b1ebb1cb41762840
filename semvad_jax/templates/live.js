"use strict";
{
  const element = id => document.getElementById(id);
  const EVERY = 1000, WIDTH = 1000, HEIGHT = 200;
  const FEWEST = 60;  // snippets that the drawing has room for
  let shown = -1;

  // Texts are set as texts alone, so that no caption or class is ever taken for markup.
  const write = (id, text) => { if (element(id).textContent !== text) element(id).textContent = text; };
  const time = wall => wall.slice(11, 19);
  const height = score => (HEIGHT * (1 - Math.min(Math.max(score, 0), 1))).toFixed(1);

  // A step a snippet, the newest at the right edge; a skipped one leaves a gap.
  function draw(rows) {
    const step = WIDTH / Math.max(rows.length, FEWEST), start = WIDTH - rows.length * step;
    const mean = [], band = [], skipped = [];
    let going = false, above = [], below = [];
    const end = () => {
      if (above.length) band.push(`M${[...above, ...below].join("L")}Z`);
      going = false, above = [], below = [];
    };
    rows.forEach((row, i) => {
      const left = (start + i * step).toFixed(1), right = (start + (i + 1) * step).toFixed(1);
      if (row.mean === null) {
        skipped.push(`M${left} ${HEIGHT}H${right}`);
        end();
        return;
      }
      mean.push(`${going ? "V" : `M${left} `}${height(row.mean)}H${right}`);
      going = true;
      if (row.sd === null) return;
      const high = height(row.mean + row.sd), low = height(row.mean - row.sd);
      above.push(`${left} ${high} ${right} ${high}`);
      below.unshift(`${right} ${low} ${left} ${low}`);
    });
    end();
    element("mean").setAttribute("d", mean.join(""));
    element("skipped").setAttribute("d", skipped.join(""));
    element("band").setAttribute("d", band.join(""));
  }

  function cell(row, text, name, number) {
    const at = row.insertCell();
    at.textContent = text;
    at.dataset.name = name;
    if (number) at.className = "number";
    return at;
  }

  // An event under way has lasted until `now`, in seconds of the stream.
  function list(events, now) {
    const body = element("rows");
    body.replaceChildren();
    for (const event of events.toReversed()) {
      const row = body.insertRow(), probability = event.class_probability;
      cell(row, String(event.event + 1), "event");
      cell(row, event.start_wall_clock.slice(0, 19).replace("T", " "), "since");
      const lasted = ((event.over ? event.end_second : now) - event.start_second).toFixed(1);
      cell(row, lasted + (event.over ? "" : " so far"), "seconds", true);
      cell(row, event.name + (probability === null ? "" : ` (${probability.toFixed(3)})`), "what");
      cell(row, event.confidence.toFixed(3), "confidence", true);
      const captions = cell(row, "", "captions");
      captions.className = "captions";
      for (const text of event.captions.slice(0, 3)) {
        captions.appendChild(document.createElement("p")).textContent = text;
      }
    }
    element("none").hidden = events.length > 0;
    body.parentElement.hidden = events.length === 0;
  }

  function show(state) {
    const last = state.rows.at(-1), scored = state.rows.findLast(row => row.mean !== null);
    write("says", state.says + ".");
    if (!last) return;
    const open = state.events.findLast(event => !event.over);
    element("alert").className = open ? "open" : "";
    write("alert", open ? `${open.name}, since ${time(open.start_wall_clock)}` : "No event under way.");
    if (last.snippet === shown) return;
    shown = last.snippet;
    write("clock", time(last.wall_clock));
    if (scored) {
      write("score", `score ${scored.mean.toFixed(3)}${scored.sd === null ? "" : ` ± ${scored.sd.toFixed(3)}`}`);
      write("class", scored.class);
      write("caption", scored.caption);
      element("picture").src = `picture.jpg?${last.snippet}`;
      element("picture").hidden = false;
    }
    write("first", state.rows.length < FEWEST ? "" : time(state.rows[0].wall_clock));
    write("last", time(last.wall_clock));
    draw(state.rows);
    list(state.events, last.end);
  }

  async function follow() {
    try {
      const answer = await fetch("state.json");
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.json());
    } catch {
      element("alert").className = "";
      write("alert", "The watch has ended, or cannot be reached.");
    }
    setTimeout(follow, EVERY);
  }
  follow();
}
