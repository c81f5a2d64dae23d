// The certified OpenID provider of the browser stories, set up as a strict operator would: a confidential client,
// PKCE always, refresh tokens that rotate and whose reuse is detected, access tokens that live for seconds.
//
// It runs in the process of the stories and remembers every token it issues, so that they can be searched for in
// everything the browser gets to see. It listens on 127.0.0.1 while the application is on `localhost`: for a browser
// these are two sites, and only then is the way back from a login truly cross-site.

import { createServer } from 'node:http';
import { once } from 'node:events';

import Provider from 'oidc-provider';

import { escape, page } from './provider_pages.mjs';
import { forPrograms } from './provider_programs.mjs';

export const CLIENT_ID = 'web';
export const CLIENT_SECRET = 'browser-stories-3dd7f0e5c1a84b0c9a';

const PEOPLE = {
  ada: {
    name: 'Ada Lovelace',
    given_name: 'Ada',
    family_name: 'Lovelace',
    preferred_username: 'ada',
    email: 'ada@example.com',
    email_verified: true,
    updated_at: 1_700_000_000,
    groups: ['staff'],
  },
  grace: {
    name: 'Grace Hopper',
    preferred_username: 'grace',
    groups: ['guests'],
  },
};

const SCOPES = 'openid profile email';

/**
 * Starts the provider on a free port of 127.0.0.1.
 *
 * `app` is the public URL of the application whose redirect URIs are registered, `accessTokenSeconds` how long an
 * access token lives, `base` the path below which the endpoints of Vestibule are, `resources` the APIs that programs can
 * have tokens for. Returns the issuer, its `endSession` endpoint, what was issued and seen so far, and `stop`.
 */
export async function startProvider({ app, accessTokenSeconds, base = '', resources = [] }) {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${server.address().port}`;

  const seen = {
    /** Every secret value that left the provider, and what it is. */
    issued: new Map([[CLIENT_SECRET, 'client secret']]),
    /** `Sec-Fetch-Site` of every authorization request. */
    sites: [],
    /** Answers of the token endpoint in order: `{ grant, status, expiresAt }`, the last in milliseconds. */
    tokenAnswers: [],
    /** How often a refresh token came back that had been used before. */
    reuses: 0,
  };
  const provider = new Provider(issuer, configuration({ app, accessTokenSeconds, base, resources }));
  remember(provider, seen);
  const answer = provider.callback();
  server.on('request', (request, response) => {
    if (request.url.startsWith('/interaction/')) {
      interact(provider, request, response).catch((error) => fail(response, error));
    } else {
      answer(request, response);
    }
  });
  return { issuer, endSession: `${issuer}/session/end`, ...views(seen), stop: () => close(server) };
}

/** Getters, so that a story always reads the present state. */
function views(seen) {
  return {
    issued: seen.issued,
    sites: seen.sites,
    tokenAnswers: seen.tokenAnswers,
    reuses: () => seen.reuses,
  };
}

function configuration({ app, accessTokenSeconds, base, resources }) {
  const programs = forPrograms(resources);
  return {
    clients: [
      ...programs.clients,
      {
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET,
        token_endpoint_auth_method: 'client_secret_basic',
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        redirect_uris: [`${app}${base}/login/end`],
        post_logout_redirect_uris: [`${app}${base}/logout/end`],
      },
    ],
    cookies: { keys: ['a key for the provider of the browser stories'] },
    claims: {
      // What belongs to `openid` itself is in the ID token; the rest is for the userinfo endpoint.
      openid: ['sub', 'groups'],
      profile: ['name', 'given_name', 'family_name', 'preferred_username', 'updated_at'],
      email: ['email', 'email_verified'],
    },
    features: {
      ...programs.features,
      devInteractions: { enabled: false },
      revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          const button = '<button form="op.logoutForm" name="logout" value="yes">Sign out everywhere</button>';
          ctx.type = 'html';
          ctx.body = page('Sign out?', `${form}<p>${button}</p>`);
        },
      },
    },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...PEOPLE[id] }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    loadExistingGrant,
    pkce: { required: () => true },
    renderError: (ctx, out) => {
      ctx.type = 'html';
      ctx.body = page('The provider refuses', `<p><code>${escape(out.error)}</code></p>`);
    },
    rotateRefreshToken: () => true,
    ttl: {
      AccessToken: accessTokenSeconds,
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: 3600,
      IdToken: 600,
      Interaction: 600,
      RefreshToken: 3600,
      Session: 3600,
    },
  };
}

/** Everybody consents to everything, once per session. */
async function loadExistingGrant(ctx) {
  const { client, session, provider } = ctx.oidc;
  const known = session.grantIdFor(client.clientId);
  if (known) return provider.Grant.find(known);
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(SCOPES);
  await grant.save();
  return grant;
}

/** Notes down what is issued and asked, as it goes over the wire. */
function remember(provider, seen) {
  provider.use(async (ctx, next) => {
    if (ctx.path === '/auth') seen.sites.push(ctx.get('sec-fetch-site'));
    await next();
    const location = ctx.response.get('location');
    const code = location && new URL(location, provider.issuer).searchParams.get('code');
    if (code) seen.issued.set(code, 'authorization code');
    if (ctx.path !== '/token') return;
    const { access_token: access, refresh_token: refresh, id_token: id, expires_in: seconds } = ctx.body ?? {};
    if (access) seen.issued.set(access, 'access token');
    if (refresh) seen.issued.set(refresh, 'refresh token');
    if (id) seen.issued.set(id, 'ID token');
    const grant = ctx.oidc?.params?.grant_type;
    seen.tokenAnswers.push({ grant, status: ctx.status, expiresAt: Date.now() + (seconds ?? 0) * 1000 });
  });
  provider.on('grant.error', (_ctx, error) => {
    if (error.error_detail === 'refresh token already used') seen.reuses += 1;
  });
}

/** The question that is asked for every program on somebody's own machine: anybody can claim to be it. */
async function consent(provider, request, response, uid) {
  if (request.method === 'POST') {
    return provider.interactionFinished(request, response, { consent: {} }, { mergeWithLastSubmission: true });
  }
  response.setHeader('content-type', 'text/html; charset=utf-8');
  const form = `<form method="post" action="/interaction/${uid}"><p><button>Allow</button></p></form>`;
  return response.end(page('Does this program act for you?', form));
}

/** The login form, and what it sends. */
async function interact(provider, request, response) {
  const { uid, prompt } = await provider.interactionDetails(request, response);
  if (prompt.name === 'consent') return consent(provider, request, response, uid);
  if (prompt.name !== 'login') throw new Error(`no page for the prompt ${prompt.name}`);
  if (request.method === 'POST') {
    const form = new URLSearchParams(await text(request));
    const login = form.get('login') ?? '';
    const result = form.has('cancel')
      ? { error: 'access_denied', error_description: 'the person <cancelled> the sign-in' }
      : { login: { accountId: login } };
    if (result.login && !Object.hasOwn(PEOPLE, login)) throw new Error('nobody of that name');
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
    return;
  }
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.setHeader('cache-control', 'no-store');
  response.end(
    page(
      'Sign in at the provider',
      `<form method="post" action="/interaction/${uid}">
         <p><label>Name <input name="login" value="ada" autocomplete="off"></label></p>
         <p><button>Sign in</button> <button name="cancel" value="yes">Cancel</button></p>
       </form>`,
    ),
  );
}

function fail(response, error) {
  response.statusCode = 400;
  response.end(error.message);
}

async function text(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Stops `server` and cuts what is still open. */
export async function close(server) {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
