"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = id => document.getElementById(id);
  const slider = element("slider"), video = element("video"), last = data.seconds.at(-1);
  let playable = Boolean(video), shown = -1, time = 0;

  const clock = second => {
    const tenths = Math.round(10 * second), two = n => String(n).padStart(2, "0");
    const minutes = Math.floor(tenths / 600), rest = tenths % 600;
    const tail = two(Math.floor(rest / 10)) + "." + rest % 10;
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours}:${two(minutes % 60)}:${tail}` : `${minutes}:${tail}`;
  };

  // The snippet that a moment lies in. Seconds are rounded to three places: half of one is added.
  function snippetAt(second) {
    let low = 0, high = data.mean.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (data.seconds[middle] <= second + 0.0005) low = middle; else high = middle - 1;
    }
    return low;
  }

  function write(id, text) {
    const at = element(id);
    if (at && at.textContent !== text) at.textContent = text;  // a screen reader hears changes alone
  }

  function show(second) {
    time = Math.min(Math.max(second, 0), last);
    const t = snippetAt(time);
    element("cursor").style.left = 100 * time / last + "%";
    write("clock", clock(time));
    if (t === shown) return;
    shown = t;
    const score = data.mean[t].toFixed(3) + (data.sd ? " ± " + data.sd[t].toFixed(3) : "");
    const named = data.classes[data.class[t]];
    write("snippet", String(t));
    write("score", score);
    if (data.probability) {
      write("class", named);
      write("probability", data.probability[t].toFixed(3));
    }
    write("caption", data.captions[data.caption[t]] ?? "no caption on file");
    slider.setAttribute("aria-valuenow", data.seconds[t]);
    const spoken = `${clock(data.seconds[t])}, score ${score}${named ? ", " + named : ""}`;
    slider.setAttribute("aria-valuetext", spoken);
  }

  function go(second) {
    show(second);
    if (playable) video.currentTime = time;
  }

  const pointed = event => {
    const box = slider.getBoundingClientRect();
    go(last * (event.clientX - box.left) / box.width);
  };
  slider.addEventListener("pointerdown", event => {
    if (event.button === 0) { slider.setPointerCapture(event.pointerId); pointed(event); }
  });
  slider.addEventListener("pointermove", event => {
    if (slider.hasPointerCapture(event.pointerId)) pointed(event);
  });

  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10,
    Home: -Infinity, End: Infinity };
  slider.addEventListener("keydown", event => {
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const t = Math.min(Math.max(shown + steps[event.key], 0), data.mean.length - 1);
    go(data.seconds[t]);
  });
  for (const button of document.querySelectorAll("button[data-second]")) {
    button.addEventListener("click", () => go(Number(button.dataset.second)));
  }

  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && document.activeElement.matches(".ask")) document.activeElement.blur();
  });

  if (video) {
    const follow = () => { if (playable) show(video.currentTime); };
    const frame = () => { follow(); if (playable && !video.paused) requestAnimationFrame(frame); };
    const fail = () => { playable = false; video.hidden = true; element("unplayable").hidden = false; };
    video.addEventListener("play", frame);
    for (const name of ["timeupdate", "seeked", "pause"]) video.addEventListener(name, follow);
    video.addEventListener("error", fail);
    if (video.error) fail();
  }
  show(0);
}
