// A front end that knows nothing of OpenID Connect: it asks Vestibule who is there, calls the API, and signs out.
// Everything it tells is what a script can see from here.

const at = (id) => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };
/** How many sentences stay. */
const STORY = 5;

const json = { headers: { accept: 'application/json' } };

/** What Vestibule said of the session, and when by our clock. */
let session;

/** The end of the token that the API saw last. */
let tokenEnd;

/** How many seconds the session has when it was used just now, and its token when it is new. */
let longest = { idle: 0, token: 0 };

setInterval(tick, 1000);
addEventListener('focus', () => session && look(false));
at('call').addEventListener('click', () => busy('call', callApi));
at('sign-out').addEventListener('click', () => busy('sign-out', signOut));
await enter();

/** Who is there, from nothing. */
async function enter() {
  const answer = await fetch('/userinfo', json);
  if (answer.status === 200) {
    welcome(await answer.json());
    await look(true);
    const seconds = session ? (Date.parse(session.server_time) - Date.parse(session.created_at)) / 1000 : Infinity;
    if (seconds < 5) {
      tell('The provider sent you back with a one-time code. Vestibule exchanged it for tokens, kept them, and gave your browser a cookie that no script can read.');
      way(['page', 'caddy', 'vestibule', 'far'], 'The provider', 'said who you are');
    } else {
      tell('This page asked Vestibule who you are. The browser sent the cookie along; the answer is your name, not a token.');
      way(['page', 'caddy', 'vestibule'], 'Your API', 'gets a bearer token');
    }
  } else if (answer.status === 401) {
    stranger('Sign in, and watch what this page gets to see of it.');
    tell('This page asked Vestibule who you are, and got a 401: nobody. A script is never redirected to a login; a person is, by the button.');
    way(['page', 'caddy', 'vestibule'], 'The provider', 'knows who you are');
  } else {
    stranger('Something is wrong here; the terminal of the demo may know more.');
    await refused(answer);
  }
  pockets();
}

function welcome(person) {
  const name = person.name ?? [person.given_name, person.family_name].filter(Boolean).join(' ');
  const shown = name || person.preferred_username || person.sub;
  at('title').textContent = `Hello, ${person.given_name ?? shown}`;
  at('subtitle').textContent = person.email ? `You are ${shown}, ${person.email}.` : `You are ${shown}.`;
  at('portrait').textContent = shown.split(/\s+/).map((word) => word[0]).slice(0, 2).join('').toUpperCase();
  document.title = `${shown} · Vestibule demo`;
  doors(true);
}

function stranger(subtitle) {
  session = undefined;
  tokenEnd = undefined;
  at('title').textContent = 'Nobody is signed in';
  at('subtitle').textContent = subtitle;
  document.title = 'Vestibule demo';
  doors(false);
}

function doors(signedIn) {
  at('sign-in').href = `/login/start?redirect=${encodeURIComponent(location.href)}`;
  show('sign-in', !signedIn);
  for (const id of ['call', 'sign-out', 'portrait', 'times-card']) show(id, signedIn);
  if (!signedIn) show('answer-card', false);
}

async function callApi() {
  const answer = await fetch('/api/hello?from=this+page', json);
  if (answer.status === 401) {
    stranger('Your session has ended. Sign in again to go on.');
    tell('The session is over, so Vestibule refused the call with a 401. The API never heard of it.', true);
    way(['page', 'caddy', 'vestibule'], 'Your API', 'was not asked');
    return;
  }
  if (!answer.ok) return refused(answer);
  const text = await answer.text();
  const seen = parsed(text);
  at('answer').textContent = seen ? JSON.stringify(seen, null, 2) : text;
  facts(seen);
  show('answer-card', true);
  const renewed = tokenEnd !== undefined && seen?.token?.exp > tokenEnd;
  tokenEnd = seen?.token?.exp;
  tell(renewed
    ? 'The access token was about to end, so Vestibule renewed it within this very call. The API saw the new one.'
    : 'Vestibule took its cookie out of the call and put your access token in. The API verified it and answered.');
  way(['page', 'caddy', 'vestibule', 'far'], 'Your API', 'got a bearer token');
  await look(true);
}

/** The few things worth reading first; somebody else's API tells its own. */
function facts(seen) {
  const rows = [];
  if (seen?.caller && seen?.token) {
    const groups = seen.caller.groups ?? [];
    rows.push(['Request', seen.request]);
    rows.push(['Caller', `${seen.caller.preferred_username} (${seen.caller.sub})`]);
    rows.push(['Groups', groups.length ? groups.join(', ') : 'none']);
    rows.push(['Token', `by ${seen.token.iss}, for ${seen.token.aud}, until ${time(seen.token.exp * 1000)}`]);
    rows.push(['Cookies', 'cookie' in seen.headers ? 'some of yours' : 'none']);
  }
  at('facts').replaceChildren(...rows.map(([term, text]) => {
    const row = document.createElement('div');
    row.append(element('dt', term), element('dd', text));
    return row;
  }));
  document.querySelector('#answer-card details').open = rows.length === 0;
}

async function signOut() {
  const answer = await fetch('/logout', { method: 'POST', ...json });
  if (answer.status === 200) {
    const { logout_url: next } = await answer.json();
    location.assign(next);
    return;
  }
  stranger('You were signed out already.');
  tell('There was no session to end any more.');
}

/** Asks for the times of the session, which was `used` just now or not; asking does not keep it alive. */
async function look(used) {
  const answer = await fetch('/session', json);
  if (answer.status !== 200) {
    if (answer.status === 401) {
      stranger('Your session has ended. Sign in again to go on.');
      tell('The session is over. It may have been unused for too long, or ended in another tab.', true);
      way(['page', 'caddy', 'vestibule'], 'The provider', 'knows who you are');
    }
    return;
  }
  session = { ...(await answer.json()), heard: Date.now() };
  const { access_token_expires_in: token, idle_expires_at: end, server_time: now } = session;
  const idle = (Date.parse(end) - Date.parse(now)) / 1000;
  longest = { idle: used ? idle : Math.max(longest.idle, idle), token: Math.max(longest.token, token) };
  tick();
}

function tick() {
  if (!session) return;
  const passed = Date.now() - session.heard;
  const now = Date.parse(session.server_time) + passed;
  const until = (text) => Math.max(0, Math.round((Date.parse(text) - now) / 1000));
  const whole = (Date.parse(session.expires_at) - Date.parse(session.created_at)) / 1000;
  const token = Math.max(0, Math.round(session.access_token_expires_in - passed / 1000));
  left('token', token, longest.token, 'renewed by the next call');
  const idle = until(session.idle_expires_at);
  left('idle', idle, longest.idle, 'over');
  left('session', until(session.expires_at), whole, 'over');
  if (idle === 0 && passed > 1000) look(false);
}

function left(name, seconds, whole, over) {
  at(`${name}-left`).textContent = seconds > 0 ? `${duration(seconds)} left` : over;
  at(`${name}-bar`).style.transform = `scaleX(${whole > 0 ? Math.min(1, seconds / whole) : 0})`;
}

function duration(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const text = parts.map((part) => String(part).padStart(2, '0'));
  return parts[0] ? text.join(':') : text.slice(1).join(':');
}

/** Everything that a script here could find without asking anybody. */
function pockets() {
  const count = (storage) => (storage.length ? `${storage.length} entries` : 'nothing');
  const held = { cookie: document.cookie || 'nothing', local: count(localStorage), session: count(sessionStorage) };
  for (const [name, text] of Object.entries(held)) {
    at(`pocket-${name}`).textContent = text;
    at(`pocket-${name}`).classList.toggle('none', text === 'nothing');
  }
}

/** Vestibule names its reason in a header; without it, the API refused. */
async function refused(answer) {
  show('answer-card', false);
  const reason = answer.headers.get('vestibule-error');
  const why = reason === 'forbidden' ? 'you are not among those who may' : reason ?? (await answer.text()).slice(0, 200);
  tell(reason
    ? `Vestibule refused the call with a ${answer.status}: ${why}. The API never heard of it.`
    : `The API refused the call with a ${answer.status}: ${why}`, true);
  way(['page', 'caddy', 'vestibule'].concat(reason ? [] : ['far']), 'Your API', reason ? 'was not asked' : 'refused');
}

function tell(text, bad = false) {
  const line = document.createElement('li');
  const words = element('span', text);
  words.classList.toggle('bad', bad);
  line.append(element('time', time(Date.now())), words);
  at('story').prepend(line);
  [...at('story').children].slice(STORY).forEach((old) => old.remove());
}

/** Marks who had a part in it; the last place is whoever it was about. */
function way(met, name, text) {
  for (const place of ['page', 'caddy', 'vestibule', 'far']) at(`way-${place}`).classList.toggle('met', met.includes(place));
  at('way-far-name').textContent = name;
  at('way-far-text').textContent = text;
}

async function busy(id, work) {
  const button = at(id);
  if (button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-disabled', 'true');
  try {
    await work();
  } catch {
    tell('Nothing answered. Is the demo still running?', true);
  } finally {
    button.removeAttribute('aria-disabled');
    pockets();
  }
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function time(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], { hour12: false });
}
