// The walk test's page on the phone: renews what was seen, and begins and ends a walk test after a second question.

const RENEW_MILLIS = 5000;
const ANSWER_MILLIS_MAX = 10_000;

const $ = (id) => document.getElementById(id);
let failed = false;
/** The name of whoever uses this phone. A browser without storage asks again. */
const named = (name) => {
  try {
    if (name) localStorage.setItem("kerbside-name", name);
    return localStorage.getItem("kerbside-name") ?? "";
  } catch {
    return "";
  }
};

/** The page as the gateway makes it now. What somebody is typing, or is being asked, stays. */
async function renew() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/walk", { signal: AbortSignal.timeout(ANSWER_MILLIS_MAX) });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    $("seen").replaceWith(page.getElementById("seen"));
    const form = document.querySelector("#act form");
    const next = page.querySelector("#act form");
    const isInUse = $("sure").open || form?.contains(document.activeElement);
    const isSame = form && next && form.dataset.path === next.dataset.path;
    // The question names how many have not passed yet, and must do so as of now.
    if (isSame) form.dataset.sure = next.dataset.sure;
    else if (!isInUse) $("act").replaceWith(page.getElementById("act"));
    failed = false;
  } catch {
    failed = true;
  }
  $("trouble").hidden = !failed;
}

/** Sends what a form holds: texts that are there, numbers as numbers. */
async function send(form) {
  const body = {};
  for (const { name, value, type } of form.elements)
    if (name && value.trim()) body[name] = type === "number" ? Number(value) : value.trim();
  named(body.by);
  const answer = await fetch(form.dataset.path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MILLIS_MAX),
  });
  if (answer.ok) return;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error?.message ?? `HTTP ${answer.status}`);
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  $("question").textContent = form.dataset.sure;
  $("refusal").textContent = "";
  $("yes").onclick = async () => {
    $("yes").disabled = true;
    try {
      await send(form);
      location.reload();
    } catch (error) {
      $("refusal").textContent = error.message;
    } finally {
      $("yes").disabled = false;
    }
  };
  $("sure").showModal();
});
$("no").addEventListener("click", () => $("sure").close());
document.addEventListener("visibilitychange", renew);
const by = document.querySelector("input[name=by]");
if (by) by.value = named();
setInterval(renew, RENEW_MILLIS);
