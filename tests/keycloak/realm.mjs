// The realm of the Keycloak stories: a web client and a command line client as Nexodus has them, people with realm roles,
// refresh tokens that rotate and whose reuse ends the session, access tokens of the browser that live for seconds.

export const REALM = 'vestibule';
export const WEB_ID = 'web';
export const WEB_SECRET = 'keycloak-stories-5b1f9c7e2d';
export const CLI_ID = 'cli';
export const AUDIENCE = 'api';
export const PASSWORD = 'correct horse';

/** How long an access token of the browser lives. */
export const ACCESS_TOKEN_SECONDS = 6;

/** Keycloak's own form of a realm (`--import-realm`) for the application at `app`. */
export function realm(app) {
  return {
    realm: REALM,
    enabled: true,
    // Everything is on loopback.
    sslRequired: 'none',
    revokeRefreshToken: true,
    refreshTokenMaxReuse: 0,
    accessTokenLifespan: ACCESS_TOKEN_SECONDS,
    // The shortest that it takes, so that nobody waits long for a device.
    oauth2DevicePollingInterval: 1,
    roles: { realm: [{ name: 'staff' }, { name: 'guest' }] },
    users: [person('ada', 'Ada', 'Lovelace', 'staff'), person('grace', 'Grace', 'Hopper', 'guest')],
    clients: [
      {
        clientId: WEB_ID,
        secret: WEB_SECRET,
        standardFlowEnabled: true,
        directAccessGrantsEnabled: false,
        redirectUris: [`${app}/login/end`],
        attributes: {
          'pkce.code.challenge.method': 'S256',
          'post.logout.redirect.uris': `${app}/logout/end`,
          'backchannel.logout.url': `${app}/logout/backchannel`,
          'backchannel.logout.session.required': 'true',
        },
        protocolMappers: [audience()],
      },
      {
        clientId: CLI_ID,
        name: 'The command line client',
        publicClient: true,
        standardFlowEnabled: false,
        directAccessGrantsEnabled: false,
        attributes: { 'oauth2.device.authorization.grant.enabled': 'true', 'access.token.lifespan': '300' },
        protocolMappers: [audience()],
      },
    ],
  };
}

function person(username, firstName, lastName, role) {
  return {
    username,
    firstName,
    lastName,
    email: `${username}@example.com`,
    emailVerified: true,
    enabled: true,
    credentials: [{ type: 'password', value: PASSWORD, temporary: false }],
    // The first is what Keycloak gives everybody; for its sake every token carries the audience `account`.
    realmRoles: [`default-roles-${REALM}`, role],
  };
}

/** Without it no token would be for the API. */
function audience() {
  return {
    name: 'for the API',
    protocol: 'openid-connect',
    protocolMapper: 'oidc-audience-mapper',
    config: { 'included.custom.audience': AUDIENCE, 'access.token.claim': 'true', 'id.token.claim': 'false' },
  };
}
