// The operator's dashboard.
import { $, make, whole, rate, size, total, listed, span, replace, cell, ask } from './parts.js';
import { watchMigration } from './migration.js';

const past = new Map(); // events per second of the last ten minutes, by route
const points = 300;
let last = null; // the newest figures

// Times are the sidecar's: this machine's clock may be another.
const since = time => span((Date.parse(last ? last.at : new Date()) - Date.parse(time)) / 1000);

function spark(values) {
  const ns = 'http://www.w3.org/2000/svg', svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('class', 'spark');
  svg.setAttribute('viewBox', `0 0 ${points} 26`);
  svg.setAttribute('preserveAspectRatio', 'none');
  svg.setAttribute('role', 'img');
  const most = Math.max(...values, 1e-9);
  svg.setAttribute('aria-label', values.length ? `up to ${rate(Math.max(...values))} events per second` : 'no figures yet');
  const line = document.createElementNS(ns, 'polyline'), first = points - values.length;
  line.setAttribute('points', values.map((v, i) => `${first + i},${(24 - 22 * v / most).toFixed(1)}`).join(' '));
  svg.append(line);
  return svg;
}

const levels = { up: 'good', idle: '', partial: 'warn', down: 'bad', connected: 'good', following: 'good', finished: '', retrying: 'bad', connecting: 'warn', releasing: 'warn' };
const badge = state => make('span', state, { class: 'badge', 'data-level': levels[state] });

function verdict(text, level) {
  $('verdict').textContent = text;
  $('verdict').dataset.level = level;
  document.title = (level === 'bad' ? '✗ ' : level === 'warn' ? '! ' : '') + 'Sidestream';
}

function showProblems(problems) {
  const worst = problems.some(p => p.level === 'bad') ? 'bad' : problems.length ? 'warn' : 'good';
  $('problems').dataset.level = worst;
  const n = problems.filter(p => p.level === worst).length;
  verdict(worst === 'good' ? 'all well' : worst === 'bad' ? `${n} ${n > 1 ? 'problems' : 'problem'}` : `${n} ${n > 1 ? 'warnings' : 'warning'}`, worst);
  const items = problems.map(p => make('li', [
    make('p', [make('b', p.route ? p.route + ': ' : ''), p.what]), make('p', p.fix, { class: 'fix' }),
  ], { 'data-level': p.level }));
  if (!items.length) items.push(make('li', make('p', 'Nothing: every upstream is connected, and nothing was lost in the last ten minutes.'), { 'data-level': 'good' }));
  replace($('problem-list'), items);
}

const tile = (name, value, more) => make('div', [make('dt', name), make('dd', [value, more ? make('small', more) : ''])]);

function showTotals(l) {
  const s = l.status, sse = total(l.writers), rates = Object.values(l.rates), sum = key => rates.reduce((n, r) => n + r[key], 0);
  const tiles = [
    tile('Clients', whole(sse), listed(Object.fromEntries(Object.entries(l.writers).filter(([, n]) => n)))),
    tile('Old WebSockets', whole(l.websockets), 'passed through'),
    tile('Streams', whole(s.routes.reduce((n, r) => n + r.streams, 0))),
    tile('Events in', rate(sum('events')) + '/s'),
    tile('Delivered', rate(sum('delivered')) + '/s', size(sum('bytes')) + '/s'),
    tile('Turned away', whole(total(l.rejected)), listed(l.rejected) || 'in 10 minutes'),
    tile('Disconnected', whole(total(l.disconnected)), listed(l.disconnected) || 'in 10 minutes'),
  ];
  if (s.history) {
    const h = s.history;
    tiles.push(tile('History', h.up ? h.kind : h.kind + ' (away)', h.kind === 'redis' ? `replica ${h.replica}: runs ${h.leading}, follows ${h.following}` : `${whole(h.streams)} streams, ${size(h.size)}`));
  }
  if (s.tunnel) tiles.push(tile('Tunnels', whole(s.tunnel.tunnels), `${whole(s.tunnel.pages)} pages`));
  if (s.peer) tiles.push(tile('Other replicas', `${whole(s.peer.streams)} streams`, `${whole(s.peer.forwarded)} asked, ${whole(s.peer.failed)} failed`));
  replace($('totals'), tiles);
}

function showRoutes(l) {
  const rows = l.status.routes.map(r => {
    const now = l.rates[r.name] || { events: 0, delivered: 0, gaps: {}, answer_ms: null }, u = r.upstream;
    const upstream = [badge(u.state), make('small', u.state === 'idle' ? 'no stream' : `for ${since(u.since)}, ${u.connected} of ${r.streams} connected`)];
    if (u.last_error) upstream.push(make('small', [make('span', u.last_error, { class: u.state === 'up' ? '' : 'error' }), ` (${since(u.last_failed)} ago)`]));
    return make('tr', [
      make('td', [make('b', r.name), make('small', r.path, { class: 'mono' }), make('small', r.from, { class: 'mono' })]),
      make('td', upstream),
      cell([whole(r.clients), r.websockets ? make('small', `+ ${whole(r.websockets)} WebSockets`) : ''], 'Clients'),
      cell([whole(r.streams), make('small', r.shared ? 'shared' : 'private')], 'Streams'),
      cell(rate(now.events), 'Events/s'),
      make('td', spark(past.get(r.name) || [])),
      cell(rate(now.delivered), 'Delivered/s'),
      cell(now.answer_ms === null ? '–' : now.answer_ms + ' ms', 'Answer', { title: 'average time of connecting, or of a poll, in the last ten minutes' }),
      cell([total(now.gaps) ? make('span', whole(total(now.gaps)), { class: 'warned' }) : '0', total(now.gaps) ? make('small', listed(now.gaps)) : ''], 'Gaps'),
    ]);
  });
  replace($('route-rows'), rows);
  for (const select of document.querySelectorAll('select[name=route]')) {
    const names = ['', ...l.status.routes.map(r => r.name)];
    if ([...select.options].map(o => o.value).join() !== names.join()) {
      const chosen = select.value;
      select.replaceChildren(...names.map(n => make('option', n || 'all', { value: n })));
      select.value = names.includes(chosen) ? chosen : '';
    }
  }
}

// The log.
const kept = [];
function lineOf({ line }) {
  const { time, level, msg, ...rest } = line, more = [];
  for (const [k, v] of Object.entries(rest)) more.push(' ', make('span', k + '=', { class: 'k' }), typeof v === 'string' ? v : JSON.stringify(v));
  return make('div', [make('time', (time || '').replace('T', ' ').slice(0, 19)), ' ', make('span', level, { class: 'lv' }), ' ', msg, ...more], { 'data-level': level });
}
const wanted = l => !$('log-find').value || JSON.stringify(l.line).toLowerCase().includes($('log-find').value.toLowerCase());
function showLines(fresh) {
  for (const l of fresh) {
    kept.push(l);
    if (wanted(l)) $('lines').append(lineOf(l));
  }
  kept.splice(0, kept.length - 400);
  while ($('lines').childElementCount > 400) $('lines').firstElementChild.remove();
  if (fresh.length && $('follow').checked) $('lines').scrollTop = $('lines').scrollHeight;
}
$('log-find').addEventListener('input', () => {
  $('lines').replaceChildren(...kept.filter(wanted).map(lineOf));
  $('lines').scrollTop = $('lines').scrollHeight;
});
$('level').addEventListener('change', async () => {
  const answer = await ask('api/log-level', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ level: $('level').value }) }, $('log-note'));
  if (answer) $('log-note').textContent = `The level is ${answer.level} until the sidecar restarts.`;
});

const query = form => new URLSearchParams([...new FormData(form)].filter(([, v]) => v)).toString();

// asked counts what each list was asked: an answer that an older question gets after a newer one is not shown.
const asked = { streams: 0, clients: 0 };

async function findStreams(event) {
  event?.preventDefault();
  const now = ++asked.streams, answer = await ask('api/streams?' + query($('stream-form')), {}, $('stream-note'));
  if (!answer || now !== asked.streams) return;
  const shown = answer.streams;
  $('stream-note').textContent = !shown.length ? 'There are none now.' : answer.total === shown.length ? `${whole(shown.length)} streams, those in trouble first.` : `${whole(shown.length)} of ${whole(answer.total)} streams, those in trouble first: search to see others.`;
  $('stream-rows').closest('table').hidden = !shown.length;
  $('stream-rows').replaceChildren(...shown.map(s => {
    const path = Object.entries(s.path).map(([k, v]) => `${k}=${v}`).join(' ');
    const button = make('button', 'Look', { class: 'small', type: 'button', 'aria-label': `Look at the newest events of ${path || s.upstream}` });
    button.addEventListener('click', () => showEvents(s, path));
    return make('tr', [
      make('td', make('b', s.route)),
      make('td', [path ? make('b', path) : '', make('small', s.upstream, { class: 'mono' }), make('small', 'epoch ' + s.epoch, { class: 'mono' })]),
      make('td', [badge(s.state), make('small', 'opened ' + since(s.opened) + ' ago'), s.error ? make('small', [make('span', s.error, { class: s.state === 'retrying' ? 'error' : '' }), ` (${since(s.error_at)} ago)`]) : '', s.state === 'retrying' ? make('small', s.fix) : '']),
      make('td', whole(s.clients), { class: 'num' }), make('td', whole(s.events), { class: 'num' }), make('td', s.newest ? since(s.newest) + ' ago' : '–', { class: 'num' }),
      make('td', [whole(s.kept), make('small', size(s.bytes))], { class: 'num' }), make('td', button),
    ]);
  }));
}

async function showEvents(s, path) {
  const answer = await ask('api/events?' + new URLSearchParams({ route: s.route, stream: s.epoch }), {}, $('stream-note'));
  $('events').hidden = !answer;
  if (!answer) return;
  $('events-title').textContent = `Newest events of ${s.route} ${path}`;
  $('event-text').textContent = answer.events.length ? answer.events.join('') : 'There are none yet.';
  $('events-title').focus();
}

const classes = ['under a minute', 'under 10 minutes', 'under an hour', 'under a day', 'longer'];
async function findClients(event) {
  event?.preventDefault();
  const now = ++asked.clients, answer = await ask('api/clients?' + query($('client-form')), {}, $('client-note'));
  if (!answer || now !== asked.clients) return;
  const by = answer.ages.map((n, i) => n ? `${whole(n)} ${classes[i]}` : '').filter(Boolean).join(', ');
  $('client-note').textContent = !answer.total ? 'There are none now.' : `${whole(answer.total)} clients${answer.partial ? ' and more' : ''}` + (by ? `, here for: ${by}` : '') + `. ${whole(answer.behind)} have not got every event yet, ${whole(answer.blocked)} take nothing at the moment.` +
    (answer.total > answer.clients.length ? ` Shown are ${answer.clients.length}, the furthest behind and the longest here.` : '');
  for (const id of ['client-rows', 'address-rows']) $(id).closest('table').hidden = !answer.total;
  $('client-rows').replaceChildren(...answer.clients.map(c => make('tr', [
    make('td', make('b', c.route)), make('td', c.address || 'unknown', { class: 'mono' }), make('td', c.writer), make('td', span(c.age), { class: 'num' }),
    make('td', [c.behind ? make('span', whole(c.behind), { class: 'warned' }) : '0', c.blocked ? make('small', 'takes nothing') : ''], { class: 'num' }),
  ])));
  $('address-rows').replaceChildren(...answer.addresses.map(a => make('tr', [make('td', a.address, { class: 'mono' }), make('td', whole(a.clients), { class: 'num' })])));
}
$('stream-form').addEventListener('submit', findStreams);
$('client-form').addEventListener('submit', findClients);
for (const form of [$('stream-form'), $('client-form')]) form.elements.route.addEventListener('change', () => form.requestSubmit());

// Live figures.
const source = new EventSource('api/live');
source.addEventListener('past', e => {
  past.clear();
  for (const [name, values] of Object.entries(JSON.parse(e.data))) past.set(name, values || []);
});
let first = true;
source.addEventListener('live', e => {
  const l = last = JSON.parse(e.data), s = l.status;
  for (const [name, r] of Object.entries(l.rates)) {
    const values = past.get(name) || [];
    values.push(r.events);
    values.splice(0, values.length - points);
    past.set(name, values);
  }
  $('about').textContent = `version ${s.version}, up for ${since(l.started)}` + (s.draining ? ', draining' : s.ready ? '' : ', not ready yet') + (s.history?.replica ? `, replica ${s.history.replica}` : '');
  showProblems(l.problems);
  showTotals(l);
  showRoutes(l);
  showLines(l.log || []);
  if (document.activeElement !== $('level') && l.log_level) $('level').value = l.log_level.toLowerCase();
  $('clock').textContent = 'as of ' + new Date(l.at).toLocaleTimeString();
  if (first) {
    first = false;
    findStreams();
    findClients();
    watchMigration(l.at);
  }
});
source.addEventListener('error', () => {
  verdict('no connection to the sidecar', 'bad');
  kept.length = 0; // its next answer has them from the beginning
  $('lines').replaceChildren();
});
