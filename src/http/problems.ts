/** Every error code that a client can meet, with its status and what it means; stable (design section 6). */
export const PROBLEMS = {
  unauthenticated: [401, 'Send a valid access token or session cookie.'],
  token_expired: [401, 'The credential has expired; get a new one.'],
  forbidden: [403, 'You may not see this, or it does not exist.'],
  invalid_topic: [400, 'A topic is stream:{uuid}, escrow:{uuid}, user:{uuid} or wallet:{address}.'],
  too_many_topics: [400, 'Too many topics at a time.'],
  snapshot_too_large: [400, 'The state of these topics is too large for one snapshot; name fewer topics.'],
  too_many_connections: [429, 'Too many streams are open; close one, or try again later.'],
  rate_limited: [429, 'Too many requests; try again later.'],
  invalid_cursor: [
    400,
    'A cursor is the id of an event: a whole number without sign or leading zeros, given once.',
  ],
  not_acceptable: [406, 'This resource is a text/event-stream.'],
  payload_too_large: [413, 'The request body is too large.'],
  headers_too_large: [431, 'The request line and headers are too large.'],
  request_timeout: [408, 'The request took too long to arrive.'],
  not_found: [404, 'There is no such resource.'],
  method_not_allowed: [405, 'The resource does not know this method.'],
  bad_request: [400, 'The request cannot be understood.'],
  unavailable: [503, 'The service is starting, draining or without its database; try again.'],
} as const satisfies Record<string, readonly [number, string]>;

export type ProblemCode = keyof typeof PROBLEMS;
