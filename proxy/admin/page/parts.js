// What the sections of the dashboard are made of. Everything shown is text: nothing that came from elsewhere is ever taken for markup.
export const $ = id => document.getElementById(id);

// make builds an element: its text or children, and attributes.
export function make(tag, content, attributes = {}) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) e.setAttribute(name, value);
  for (const child of [content].flat()) if (child !== null && child !== undefined && child !== '') e.append(child);
  return e;
}

export const whole = n => Math.round(n).toLocaleString('en-US');
export const rate = n => n >= 100 ? whole(n) : String(Math.round(n * 10) / 10);
export const size = n => n >= 1 << 20 ? (n / (1 << 20)).toFixed(1) + ' MiB' : n >= 1024 ? (n / 1024).toFixed(1) + ' KiB' : n + ' B';
export const total = o => Object.values(o).reduce((a, b) => a + b, 0);
export const listed = o => Object.entries(o).map(([k, n]) => `${k} ${whole(n)}`).join(', ');

export function span(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return seconds + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min';
  if (seconds < 86400) return Math.floor(seconds / 3600) + ' h ' + Math.floor(seconds % 3600 / 60) + ' min';
  return Math.floor(seconds / 86400) + ' d ' + Math.floor(seconds % 86400 / 3600) + ' h';
}

// replace shows rows, unless they are what is there: a screen reader and a selection stay where they are.
export function replace(parent, rows) {
  const fresh = make('div', rows);
  if (fresh.innerHTML !== parent.innerHTML) parent.replaceChildren(...rows);
}

export function cell(text, head, attributes = {}) { return make('td', text, { class: 'num', 'data-head': head, ...attributes }); }

// ask fetches JSON; what went wrong is written to note.
export async function ask(path, options, note) {
  try {
    const response = await fetch(path, options);
    if (response.ok) return await response.json();
    note.textContent = (await response.text()).trim();
  } catch {
    note.textContent = 'The sidecar does not answer.';
  }
  return null;
}
