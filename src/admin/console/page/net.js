// Calls and the stream of this node, with a session that is opened again when it is lost.

/** Why a call failed: the code and sentence of the node, or that there was no answer. */
export class Failure extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The token, in memory only: after a restart of the node it opens another session. */
let token = "";
/** Asks a person for the token; set by the shell. @type {() => Promise<void>} */
let askToken = async () => {};
/** The login in progress, shared by all calls that need it. @type {Promise<void> | null} */
let login = null;

/** @param {() => Promise<void>} ask */
export function onLoginNeeded(ask) {
  askToken = ask;
}

/** Opens a session. @param {string} word the token */
export async function logIn(word) {
  await send("login", { token: word });
  token = word;
}

/** Ends the session and forgets the token. */
export async function logOut() {
  token = "";
  await send("logout", {});
}

/** Makes a call without a word about sessions. @param {string} path @param {unknown} [body] a change, if it is there @returns {Promise<any>} */
async function send(path, body) {
  const isChange = body !== undefined;
  const options = isChange ? { method: "POST", headers: { "X-Wafergate": "1", "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  let response;
  try {
    response = await fetch(`api/${path}`, { ...options, signal: AbortSignal.timeout(15_000) });
  } catch {
    throw new Failure("no_answer", "");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Failure(answer.code ?? `http_${response.status}`, answer.message ?? "");
  return answer;
}

/**
 * Makes a call; a change, if there is a body. Logs in first, if need be.
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function api(path, body) {
  for (;;) {
    try {
      return await send(path, body);
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== "login_required") throw error;
      login ??= logInAgain().finally(() => (login = null));
      await login;
    }
  }
}

async function logInAgain() {
  if (token !== "") {
    try {
      return await logIn(token);
    } catch (error) {
      if (error instanceof Failure && error.code === "no_answer") throw error;
      token = "";
    }
  }
  await askToken();
}

/**
 * Follows the stream of a view until `close` is called, through restarts of the node. A hidden page has no stream.
 * @param {string} view
 * @param {(frame: Frame) => void} onFrame
 * @param {(isOpen: boolean) => void} onState
 */
export function stream(view, onFrame, onState) {
  /** @type {EventSource | null} */
  let source = null;
  let retry = 0;
  let isClosed = false;
  const stop = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };
  const start = () => {
    stop();
    if (isClosed || document.hidden) return;
    const mine = (source = new EventSource(`api/live?view=${view}`));
    mine.onopen = () => onState(true);
    mine.onmessage = (event) => onFrame(JSON.parse(event.data));
    mine.onerror = () => {
      onState(false);
      // A call finds out why, and logs in if that is missing.
      stop();
      retry = setTimeout(() => api("overview").then(start, start), 1_000);
    };
  };
  document.addEventListener("visibilitychange", start);
  start();
  return {
    close() {
      isClosed = true;
      document.removeEventListener("visibilitychange", start);
      stop();
    },
  };
}
