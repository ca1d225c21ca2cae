// Questions to the server. Only this file talks to it. A question whose `signal` is aborted is answered by an AbortError.

let session = null;

/** Open a session; return what can be chosen. */
export async function open() {
  const answer = await fetch("/api/session", { method: "POST" });
  const chosen = await answer.json();
  if (!answer.ok) throw new Error(chosen.error);
  session = chosen.session;
  return chosen;
}

/** End the session, also while the page is being closed. */
export function close() {
  if (session !== null) navigator.sendBeacon("/api/close", session);
  session = null;
}

/** Ask about a network; return the answer with its arrays decoded. */
export async function ask(what, question, signal) {
  const answer = await (await post(what, JSON.stringify(question), signal)).json();
  signal?.throwIfAborted();
  return decoded(answer);
}

/** Send an image file. This is not aborted: the server may have it already. */
export async function upload(file) {
  const answer = await post("image", file, undefined, { "X-Foveal-Name": encodeURIComponent(file.name) });
  return answer.json();
}

/** Return a picture as a bitmap, with its height and width before it was reduced. */
export async function picture(network, what, signal) {
  const answer = await post("picture", JSON.stringify({ network, what }), signal);
  const [height, width] = answer.headers.get("X-Foveal-Size").split(" ").map(Number);
  const bitmap = await createImageBitmap(await answer.blob());
  signal.throwIfAborted();
  return { bitmap, height, width };
}

/**
 * Call `onLine` with each line of an answer that arrives in parts. If it is aborted, the rest is read and dropped: the
 * server is done with the session's last image only then.
 */
export async function stream(what, question, signal, onLine) {
  const answer = await post(what, JSON.stringify(question));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (signal.aborted && !done) continue;
    signal.throwIfAborted();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const found = decoded(JSON.parse(line));
      if (found.error) throw new Error(found.error);
      onLine(found);
    }
    if (done) return;
  }
}

/** Save a file that the server makes. */
export async function download(question, signal) {
  const answer = await post("download", JSON.stringify(question), signal);
  const name = /filename\*=utf-8''(.+)/.exec(answer.headers.get("Content-Disposition"))[1];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = decodeURIComponent(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function post(what, body, signal, more = {}) {
  const headers = { "X-Foveal-Session": session ?? "", ...more };
  let answer;
  try {
    answer = await fetch(`/api/${what}`, { method: "POST", body, headers, signal });
  } catch {
    signal?.throwIfAborted();
    throw new Error("The server does not answer: is foveal app still running?");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error ?? "The server could not answer: its terminal says why.");
}

function decoded(value) {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== "object") return value;
  if ("float32" in value) {
    const bytes = Uint8Array.from(atob(value.float32), (c) => c.charCodeAt(0));
    return { shape: value.shape, numbers: new Float32Array(bytes.buffer) };
  }
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, decoded(one)]));
}
