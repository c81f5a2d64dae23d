// An agent as MCP has them, by the SDK that they are written with: it starts with nothing but the address of an API, is
// refused, and finds the rest by itself: what protects the API (RFC 9728), where its provider is (RFC 8414), who it is
// there (RFC 7591), and a token for this API alone (RFC 8707).
//
//   node agent.mjs API

import { once } from 'node:events';
import { createServer } from 'node:http';

import { auth, extractWWWAuthenticateParams } from '@modelcontextprotocol/sdk/client/auth.js';

const [api] = process.argv.slice(2);
const tell = (what) => console.log(JSON.stringify(what));

const refused = await fetch(api);
const { resourceMetadataUrl, scope } = extractWWWAuthenticateParams(refused);
tell({ status: refused.status, challenge: refused.headers.get('www-authenticate'), metadata: resourceMetadataUrl });

// Where the person's browser comes back to.
const landing = createServer().listen(0, '127.0.0.1');
await once(landing, 'listening');
const redirectUrl = `http://127.0.0.1:${landing.address().port}/callback`;

const kept = {};
const asked = [];
const provider = {
  redirectUrl,
  clientMetadata: {
    client_name: 'An agent',
    application_type: 'native',
    redirect_uris: [redirectUrl],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    scope: 'openid',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization: (url) => tell({ open: url, resource: url.searchParams.get('resource') }),
};
const options = {
  serverUrl: api,
  resourceMetadataUrl,
  scope,
  fetchFn: (url, init) => {
    asked.push(String(url));
    return fetch(url, init);
  },
};
await auth(provider, options);

const [arrival, thanks] = await once(landing, 'request');
thanks.end('You can close this window.');
const authorizationCode = new URL(arrival.url, redirectUrl).searchParams.get('code');
await auth(provider, { ...options, authorizationCode });
landing.close();
landing.closeAllConnections();

const answer = await fetch(api, { headers: { authorization: `Bearer ${kept.tokens.access_token}` } });
tell({ status: answer.status, body: await answer.json(), asked });
