"""The style sheet of a report page, inline in the page: light, dark and print."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --card: #ffffff; --ink: #1d1c1a; --muted: #5d5952; --line: #e3dfd6;
  --fovea: #a8430b; --periphery: #4347b0; --good: 15 118 110; --wrong: 180 35 24;
  --third: #0b7a6f; --fourth: #a02c8c; --fifth: #6f6500; --sixth: #0a6ea8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15161a; --card: #1d1f24; --ink: #f2efe9; --muted: #aca79f; --line: #35373e;
    --fovea: #ffab5e; --periphery: #aab0ff; --good: 95 211 198; --wrong: 255 138 122;
    --third: #5fd3c6; --fourth: #f09be2; --fifth: #d9ce5c; --sixth: #6cc4f5;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { margin: 0; min-width: 0; overflow-wrap: anywhere; font-size: clamp(1.5rem, 5vw, 2.5rem); letter-spacing: -0.02em; }
h2 { margin: 0 0 0.6rem; font-size: 1.3rem; letter-spacing: -0.01em; }
h3 { margin: 0; font-size: 0.95rem; }
p { margin: 0 0 1rem; max-width: 44rem; }
header { display: flex; gap: 1rem; align-items: center; margin-bottom: 1rem; }
header svg { flex: none; width: 3.2rem; height: 3.2rem; color: var(--fovea); }
section { margin-top: 2.5rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
img { display: block; max-width: 100%; height: auto; }
code, pre { font: 0.9em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
.lead { font-size: 1.1rem; }
.note, figcaption, caption { color: var(--muted); font-size: 0.9rem; }
.number, td { font-variant-numeric: tabular-nums; }

dl.headline {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.75rem; margin: 1.5rem 0 0;
}
.headline div { padding: 0.8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.6rem; }
.headline dt { color: var(--muted); font-size: 0.85rem; }
.headline dd { margin: 0; font-size: 1.45rem; font-weight: 650; letter-spacing: -0.01em; }
dl.facts {
  display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1.25rem; margin: 0; font-size: 0.95rem;
}
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.facts + .facts { margin-top: 0.25rem; }
.facts + .scroll, .facts + .note, .scroll + .note { margin-top: 1.25rem; }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.5rem; }
.charts.even { grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.charts.even figure { max-width: 30rem; }
figure { margin: 0; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--muted); font-size: 12px; font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); }
.chart .line polyline {
  fill: none; stroke: currentColor; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round;
}
.chart .line circle { fill: currentColor; }
.chart .mark line { stroke: var(--muted); stroke-dasharray: 3 3; }
.chart .mark text { fill: var(--ink); }
.charts + .note { margin-top: 1rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; margin: 0.1rem 0 0.3rem; font-size: 0.9rem; }
.legend span { font-variant-numeric: tabular-nums; font-weight: 600; }
.fovea { color: var(--fovea); }
.periphery { color: var(--periphery); }
.third { color: var(--third); }
.fourth { color: var(--fourth); }
.fifth { color: var(--fifth); }
.sixth { color: var(--sixth); }
.muted { color: var(--muted); }
.swatches { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; margin: 0.4rem 0 0.6rem; font-size: 0.9rem; }
.swatches i {
  display: inline-block; width: 0.85em; height: 0.85em; margin-right: 0.4em; border-radius: 0.2em;
  background: var(--swatch); border: 1px solid var(--muted); vertical-align: -0.05em;
}

.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.95rem; }
caption { text-align: left; padding-bottom: 0.5rem; }
th, td { padding: 0.35rem 0.75rem 0.35rem 0; text-align: left; vertical-align: middle; }
thead th { color: var(--muted); font-weight: 500; }
tbody tr { border-top: 1px solid var(--line); }
.confusion { font-size: clamp(0.72rem, 2.9vw, 0.95rem); }
.confusion th, .confusion td { padding: 0; min-width: 2.3em; height: 2.2em; text-align: center; }
.confusion tbody th, .confusion thead th[scope="col"]:first-child { padding-right: 0.5em; text-align: right; }
.confusion tbody tr { border: 0; }
.confusion td { border: 1px solid var(--paper); border-radius: 0.3em; }
.confusion .hit { background: rgb(var(--good) / var(--strength)); }
.confusion .miss { background: rgb(var(--wrong) / var(--strength)); font-weight: 700; }
.confusion .zero { color: var(--muted); opacity: 0.6; }

.confusion th.long { height: auto; vertical-align: bottom; }
.confusion th.long span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem; padding: 0.2em 0; }
.confusion tbody th { max-width: 12rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.confusion td { padding: 0 0.3em; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem 2.5rem; align-items: flex-start; }
.beside + .beside { margin-top: 1.5rem; }
.beside > div { flex: 1 1 20rem; min-width: min(20rem, 100%); max-width: 100%; }
.beside > div:first-child { flex: 0 1 auto; min-width: 0; }
.beside > div > .chart { width: min(28rem, 100vw - 2.5rem); }
.classes { width: 100%; }
.classes td:last-child { width: 45%; padding-right: 0; }
.classes td { white-space: nowrap; }
.classes .bar { min-width: 6rem; }

.strips { display: grid; gap: 1.2rem; margin: 0.6rem 0 1.6rem; }
.strips.two { grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
.strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(0, 1fr)); grid-auto-flow: column; gap: 0.5rem; }
.strip div { font-size: 0.82rem; color: var(--muted); overflow-wrap: anywhere; }
.strip img { width: 100%; border-radius: 0.4rem; margin-bottom: 0.2rem; }

.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(7.4rem, 1fr)); gap: 1rem 0.8rem;
  margin: 0.6rem 0 1.4rem;
}
.gallery img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 0.4rem; background: #000; }
.gallery figcaption { margin-top: 0.35rem; line-height: 1.35; overflow-wrap: anywhere; font-size: 0.82rem; }
.gallery strong { color: var(--ink); }
.pixels img { image-rendering: pixelated; }
.predictions { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1.2rem; }
.predictions figure { display: grid; grid-template-columns: 4.8rem 1fr; gap: 0.4rem 0.8rem; align-items: center; }
.predictions img { width: 4.8rem; height: 4.8rem; object-fit: contain; border-radius: 0.4rem; background: #000; }
.predictions figcaption { grid-column: 1 / -1; overflow-wrap: anywhere; font-size: 0.82rem; }
.bar {
  position: relative; display: flex; justify-content: space-between; gap: 0.75rem; min-width: 8.5rem;
  padding: 0.1rem 0.5rem;
}
.bar::before {
  content: ""; position: absolute; inset: 1px auto 1px 0; width: var(--share); border-radius: 0.25rem;
  background: color-mix(in srgb, var(--periphery) 24%, transparent);
}
.bar span { position: relative; }

.attention {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(11rem, 45%), 1fr)); gap: 1.2rem 0.9rem;
  margin: 0 0 2rem;
}
.attention img { width: 100%; border-radius: 0.4rem; }
.attention span { display: block; margin: 0.15rem 0 0.5rem; font-size: 0.85rem; font-weight: 600; }
.attention figcaption { line-height: 1.35; font-size: 0.85rem; }
.attention figure:first-child figcaption { margin-top: 0.4rem; }
@media (max-width: 40rem) { .attention figure:first-child { grid-column: 1 / -1; max-width: 15rem; } }
.explained { margin: 0 0 2rem; }
.explained h3 { margin-bottom: 0.5rem; }
.explained img { background: #fff; border-radius: 0.4rem; min-width: 34rem; max-height: 40rem; }
.explained pre { margin-top: 0.5rem; }
.scale { display: flex; gap: 0.6rem; align-items: center; color: var(--muted); font-size: 0.9rem; }
.scale img { width: 10rem; height: 0.7rem; border-radius: 0.2rem; }
.commands dt { font-weight: 600; }
.commands dd { margin: 0.25rem 0 1rem; }
pre {
  margin: 0; padding: 0.7rem 0.9rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
pre span { display: inline-block; max-width: 100%; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--muted); }
@media print {
  :root { --paper: #ffffff; --card: #ffffff; --ink: #000000; --muted: #444444; --line: #cccccc;
    --fovea: #a8430b; --periphery: #4347b0; --good: 15 118 110; --wrong: 180 35 24; color-scheme: light;
    --third: #0b7a6f; --fourth: #a02c8c; --fifth: #6f6500; --sixth: #0a6ea8; }
  html { font-size: 9.5pt; }
  .charts { grid-template-columns: repeat(3, 1fr); }
  .attention { grid-template-columns: repeat(5, 1fr); }
  .attention figure:first-child { grid-column: auto; }
  .predictions { grid-template-columns: repeat(4, 1fr); }
  body { padding: 0; max-width: none; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  figure, tr, .headline div, .commands dd { break-inside: avoid; }
  h2, h3, .note { break-after: avoid; }
  section { margin-top: 1.5rem; padding-top: 1rem; }
}
"""
