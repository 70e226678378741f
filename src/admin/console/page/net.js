// Calls and the stream of this node, with a session that is opened again when it is lost.

/** A node that sends no frame for so long does not answer. */
const SILENCE_MS = 15_000;

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
  await api("login", { token: word });
  token = word;
}

/** Ends the session and forgets the token. */
export async function logOut() {
  token = "";
  await api("logout", {});
}

/** Makes a call; a change, if there is a body. Logs in first, if need be, but not to log out. @param {string} path @param {unknown} [body] @returns {Promise<any>} */
export async function api(path, body) {
  const change = body === undefined ? {} : { method: "POST", headers: { "X-Wafergate": "1", "Content-Type": "application/json" }, body: JSON.stringify(body) };
  for (;;) {
    const response = await fetch(`api/${path}`, { ...change, signal: AbortSignal.timeout(15_000) }).catch(() => null);
    const answer = await response?.json().catch(() => null);
    if (!response || !answer) throw new Failure("no_answer", "");
    if (response.ok) return answer;
    if (answer.code !== "login_required" || path === "logout") throw new Failure(answer.code ?? "", answer.message ?? "");
    login ??= logInAgain().finally(() => (login = null));
    await login;
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

/** Follows the stream of a view until `close` is called, through restarts of the node. A hidden page has no stream. @type {Follow} */
export const stream = (view, onFrame, onState) => {
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;
  let isClosed = false;
  const stop = () => {
    clearTimeout(timer);
    source?.close();
  };
  const lost = () => {
    stop();
    onState(false);
    // A call finds out why, and logs in if that is missing.
    timer = setTimeout(() => api("overview").then(start, start), 1_000);
  };
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(lost, SILENCE_MS);
  };
  const start = () => {
    stop();
    if (isClosed || document.hidden) return;
    source = new EventSource(`api/live?view=${view}`);
    source.onopen = () => onState(true);
    source.onmessage = (event) => {
      heard();
      onFrame(JSON.parse(event.data));
    };
    source.onerror = lost;
    heard();
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
};
