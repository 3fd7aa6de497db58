// The migration: who is still on an old path, and when it is safe to switch off.
import { $, make, whole, total, span, replace, ask } from './parts.js';

const refresh = 10000;
const levels = { 'in use': 'warn', waiting: '', safe: 'good' };
let now = 0; // the sidecar's clock

const ago = time => span((now - Date.parse(time)) / 1000) + ' ago';
const day = time => new Date(time).toISOString().slice(0, 10);

// state says what a path waits for.
function state(p) {
  const text = { 'in use': 'in use', waiting: 'waiting', safe: 'safe to switch off' }[p.state];
  const parts = [text ? make('span', text, { class: 'badge', 'data-level': levels[p.state] }) : make('span', 'no old client', { class: 'badge' })];
  if (p.state === 'waiting' && p.safe_at) parts.push(make('small', `safe in ${span((Date.parse(p.safe_at) - now) / 1000)} if no old client comes`));
  if (p.sunset) parts.push(make('small', Date.parse(p.sunset) > now ? `gone from ${day(p.sunset)} on (SSE_SUNSET)` : `answered 410 since ${day(p.sunset)}`));
  return make('td', parts);
}

// share is how many have moved: a bar and its text.
function share(p) {
  const all = p.old + p.new, meter = make('meter', '', { min: 0, max: Math.max(all, 1), value: p.new, 'aria-label': `${p.new} of ${all} clients have moved` });
  const text = [`${whole(p.old)} old, ${whole(p.new)} new`];
  const over = Object.entries(p.clients).filter(([, n]) => n).map(([transport, n]) => `${whole(n)} ${transport}`).join(', ');
  return make('td', [all ? meter : '', make('span', text), over ? make('small', over) : '']);
}

function lastSeen(p) {
  if (!p.last_old_client) return make('td', '–');
  const l = p.last_old_client, who = s => [s.browser, s.page ? 'on ' + s.page : ''].filter(Boolean).join(' ');
  const rest = p.seen.slice(1, 4).map(s => make('small', `${ago(s.at)}: ${who(s)}`));
  return make('td', [p.old ? 'now' : ago(l.at), make('small', `${l.transport}, ${who(l)}`), ...rest]);
}

function parity(p) {
  const compared = p.routes.filter(r => r.parity && total(r.parity));
  if (!compared.length) return make('td', p.routes.some(r => r.parity) ? 'nothing compared yet' : make('small', p.routes.length ? 'PARITY is not set' : ''));
  return make('td', compared.map(r => {
    const off = Object.entries(r.parity).filter(([k, n]) => k !== 'equal' && n).map(([k, n]) => `${whole(n)} ${k}`).join(', ');
    return make('small', [make('b', r.name + ': '), `${whole(r.parity.equal)} equal`, off ? make('span', ', ' + off, { class: 'error' }) : '']);
  }));
}

function show(m) {
  const paths = m.paths.filter(p => p.old || p.last_old_client || p.state || p.routes.length === 0 && total(p.clients));
  const kept = m.kept ? 'kept over restarts in SSE_HISTORY' : 'since this process began: set SSE_HISTORY to keep it over restarts';
  $('migration-note').textContent = (paths.length ? '' : 'No path of the service behind is known yet. ') + `Watched for ${span((now - Date.parse(m.since)) / 1000)}, ${kept}. A path is safe after ${m.days} days without an old client.` +
    (m.partial ? ` There are more paths than are told apart: none is safe until ${m.days} days after the last old client on those beyond, (other).` : '');
  $('migration-rows').closest('table').hidden = !paths.length;
  replace($('migration-rows'), paths.map(p => make('tr', [
    make('td', [make('b', p.path, { class: 'mono' }), p.routes.length ? make('small', 'replaced by ' + p.routes.map(r => r.name).join(', ')) : make('small', 'no route replaces it')]),
    state(p), share(p), lastSeen(p), parity(p),
  ])));
}

async function look() {
  const m = await ask('api/migration', {}, $('migration-note'));
  if (m) show(m);
}

// What was learned: a route that could be, with its settings, is a line that opens.
let opened = new Set();
function proposal(r) {
  const text = r.settings.map(s => `SSE_ROUTE_${r.name}_${s.name}=${s.value.includes('\n') ? `'${s.value}'` : s.value}`).join('\n');
  const more = make('details', [
    make('summary', [make('b', r.old, { class: 'mono' }), ` ${r.protocol || r.transport}, ${whole(r.seen)} ${r.transport === 'poll' ? 'requests' : 'WebSockets'}, ${whole(r.messages)} messages → `, make('b', r.path, { class: 'mono' })]),
    make('pre', text, { tabindex: 0 }), ...(r.notes || []).map(n => make('p', n, { class: 'note' })),
  ]);
  more.open = opened.has(r.name);
  more.addEventListener('toggle', () => opened[more.open ? 'add' : 'delete'](r.name));
  return more;
}

let shown = '';
async function lookAtLearned() {
  const note = $('learn-note'), l = await ask('api/learn', {}, note);
  if (!l || JSON.stringify(l) === shown) return;
  shown = JSON.stringify(l);
  l.routes ||= [];
  note.textContent = l.routes.length ? `Of ${whole(l.seen.websockets)} WebSockets and ${whole(l.seen.answers)} answers that passed${l.full ? '; there was more than is kept' : ''}. The settings of all of them, as an env file: ` : 'Nothing yet that could be one.';
  if (l.routes.length) note.append(make('a', 'api/learn', { href: 'api/learn' }));
  $('learned').replaceChildren(...l.routes.map(proposal), ...(l.notes || []).map(n => make('p', n, { class: 'note' })));
}

// watchMigration shows how far clients have moved, from now on. at is the sidecar's time.
export function watchMigration(at) {
  const ahead = Date.parse(at) - Date.now();
  const tick = () => { now = Date.now() + ahead; look(); lookAtLearned(); };
  tick();
  setInterval(tick, refresh);
}
