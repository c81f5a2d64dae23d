// A front end that knows nothing of OpenID Connect: it asks who is there, calls the API, and logs out.

const at = (id) => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };

async function whoIsThere() {
  const answer = await fetch('/userinfo');
  const signedIn = answer.status === 200;
  if (signedIn) {
    const person = await answer.json();
    at('who').textContent = `Signed in as ${person.preferred_username} (${person.email})`;
  } else {
    at('who').textContent = answer.status === 401 ? 'Nobody is signed in' : `Trouble: ${answer.status}`;
  }
  show('login', !signedIn);
  show('call', signedIn);
  show('logout', signedIn);
}

async function callApi() {
  const answer = await fetch('/api/hello?from=the+front', { headers: { accept: 'application/json' } });
  at('answer').textContent = `${answer.status} ${JSON.stringify(await answer.json(), null, 2)}`;
  show('answer', true);
}

async function logOut() {
  const answer = await fetch('/logout', { method: 'POST', headers: { accept: 'application/json' } });
  if (answer.status !== 200) return whoIsThere();
  const { logout_url: next } = await answer.json();
  location.assign(next);
}

at('login').href = `/login/start?redirect=${encodeURIComponent(location.href)}`;
at('call').addEventListener('click', callApi);
at('logout').addEventListener('click', logOut);
await whoIsThere();
