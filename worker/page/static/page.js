// The live page. Every text reaches the document through textContent, so nothing that a job says is ever markup.
"use strict";

const STATES = ["running", "waiting", "queued", "completed", "failed", "cancelled"];
const OVER = new Set(["completed", "failed", "cancelled"]);
const REASONS = {
  rate_limited: "rate limited",
  provider_unavailable: "provider unavailable",
  circuit_open: "circuit open",
  max_pages: "page ceiling",
  max_followers: "follower ceiling",
  provider_cap: "provider's cap",
};
const $ = (id) => document.getElementById(id);
let source = null;
let token = null; // in memory only: a reload asks again
let clock = 0; // milliseconds that the server is ahead of this browser; times on the page are the server's

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name in node && name !== "class") node[name] = value;
    else node.setAttribute(name === "class" ? "class" : name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const number = (value) => value.toLocaleString("en-US");
const counts = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
const words = (reason) => REASONS[reason] || (reason || "").replaceAll("_", " ");
const shortName = (text) => (text.length > 34 ? `${text.slice(0, 20)}…${text.slice(-12)}` : text);
const timeOf = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

// A sentence of the server's, whose times are for people of all zones, with each as this page tells times.
const TIMES = /\bat (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)/;
const told = (text, show) => text.split(TIMES).map((part, index) => (index % 2 ? show(part) : part));
const counting = (text) => told(text, (iso) => when(iso, "either"));
const dated = (text) => told(text, (iso) => `at ${timeOf(iso)}`).join("");

// A time that keeps counting between two messages of the server.
function when(iso, kind) {
  const node = el("time", { dateTime: iso, title: timeOf(iso) });
  node.dataset.kind = kind;
  count(node);
  return node;
}

function count(node) {
  const seconds = (new Date(node.dateTime) - (Date.now() + clock)) / 1000;
  const texts = {
    in: seconds > 0 ? `in ${span(seconds)}` : "now",
    ago: `${span(-seconds)} ago`,
    either: seconds > 0 ? `in ${span(seconds)}` : seconds > -2 ? "now" : `${span(-seconds)} ago`,
  };
  const text = texts[node.dataset.kind];
  if (node.textContent !== text) node.textContent = text;
}

const pill = (state) => el("span", { class: `pill ${state}` }, state);

function meter(job) {
  const known = job.percent !== null && job.percent !== undefined;
  if (!known && OVER.has(job.state)) return null;
  return el("progress", { max: 100, value: known ? job.percent : undefined, "aria-label": "progress", class: job.state });
}

function counted(job) {
  const total = job.total === null ? "" : ` of ${number(job.total)}`;
  return `${number(job.followers)}${total}`;
}

function note(job) {
  if (job.error) return [el("b", {}, job.error.code), ` ${job.error.message}`];
  if (job.state === "waiting") {
    const text = job.wait ? [": ", ...counting(job.wait.text)] : [];
    // One time is enough: most sentences have it.
    const until = job.until && text.length < 3 ? [", goes on ", when(job.until, "in")] : [];
    return [words(job.reason), ...until, ...text];
  }
  if (job.wait) return counting(job.wait.text);
  if (job.state === "running") {
    const parts = [];
    if (job.rate) parts.push(`${number(job.rate)} followers/s`);
    if (job.eta) parts.push(parts.length ? ", done " : "done ", when(job.eta, "in"));
    return parts;
  }
  if (job.state === "completed") {
    return [[job.verdict, job.reason && words(job.reason)].filter(Boolean).join(": ") +
      (job.rate ? `, ${number(job.rate)} followers/s` : "")];
  }
  return job.state === "queued" ? ["handed back, another worker takes it"] : [];
}

function card(job) {
  return el("li", { class: `job ${job.state}`, "data-key": job.id },
    el("a", { href: `#/jobs/${encodeURIComponent(job.id)}`, class: "name", title: job.id }, shortName(job.id)),
    pill(job.state),
    el("span", { class: "where quiet" }, `${job.provider} · ${job.account || "no account"} · ${job.oa}`),
    el("span", { class: "number" }, counted(job), el("span", { class: "quiet" }, job.page ? ` · page ${number(job.page)}` : "")),
    meter(job),
    el("span", { class: "note" }, note(job)),
    el("span", { class: "age quiet" }, job.finished ? "ended " : job.started ? "started " : "",
      when(job.finished || job.started || job.updated, "ago")),
  );
}

function accountCard(account) {
  const limit = account.rate ? `${number(account.rate)} requests/s` : "no limit";
  const circuit = account.circuit === "half_open" ? "probing" : account.circuit;
  const where = { closed: " for this worker", unknown: " to this worker: it has asked for nothing yet" }[account.circuit] ||
    (account.circuitIn === "elsewhere" ? " in another worker" : " in this worker");
  const broken = account.circuit === "open" || account.circuit === "half_open";
  const facts = [
    ["limit", account.rate && !account.shared ? `${limit}, not shared by this worker now: a fifth of it` : limit],
    ["circuit", [el("span", { class: `pill ${account.circuit}` }, circuit), where,
      broken && account.circuitUntil ? [", next try ", when(account.circuitUntil, "in")] : ""].flat()],
    ["in line here", number(account.waiting)],
  ];
  if (account.blockedUntil) facts.push(["provider", ["asks to wait, goes on ", when(account.blockedUntil, "in")]]);
  return el("li", { class: "card", "data-key": account.name },
    el("h3", {}, account.name, el("span", { class: "quiet" }, ` ${account.provider}`)),
    el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

function letterRow(letter, steer) {
  return el("li", { class: "letter", "data-key": `letter ${letter.number}` },
    el("span", { class: "quiet" }, `#${letter.number} `, when(letter.at, "ago")),
    letter.job ? el("a", { href: `#/jobs/${encodeURIComponent(letter.job)}`, title: letter.job }, shortName(letter.job)) : "no job",
    el("span", { class: "note" }, el("b", {}, letter.code || "unknown"), ` ${letter.message}`),
    steer ? el("button", { onclick: () => steerBy("Retry this command?",
      `Letter ${letter.number} is published as a command again; a failed job goes on behind its last page.`,
      `letters/${letter.number}/retry`) }, "Retry") : null);
}

function query() {
  const [, rest = ""] = location.hash.split("?");
  const asked = new URLSearchParams(rest);
  return { state: STATES.includes(asked.get("state")) ? asked.get("state") : "", page: Number(asked.get("page")) || 1 };
}

const listLink = (state, page) => `#/?${new URLSearchParams({ ...(state && { state }), ...(page > 1 && { page }) })}`;

function overview(data) {
  const { state } = query();
  const tabs = ["", ...STATES].map((name) =>
    el("a", { href: listLink(name, 1), class: name === state ? "tab here" : "tab", "aria-current": name === state ? "page" : null },
      name || "all", el("span", { class: "count" }, number(data.counts[name || "all"]))));
  const queued = Object.entries(data.queued).filter(([, count]) => count);
  const empty = data.reading ? "Reading the jobs …" : state ? `No job is ${state}.` : "No job yet: followers fetch PROVIDER OA_ID";
  const paging = data.pages > 1 ? el("p", { class: "paging" },
    data.page > 1 ? el("a", { href: listLink(state, data.page - 1) }, "newer") : null,
    ` page ${number(data.page)} of ${number(data.pages)} `,
    data.page < data.pages ? el("a", { href: listLink(state, data.page + 1) }, "older") : null) : null;
  show(
    el("nav", { "aria-label": "job states" }, tabs),
    queued.length ? el("p", { class: "queue" }, "In the queue: ",
      queued.map(([provider, count]) => `${number(count)} for ${provider}`).join(", ")) : null,
    data.jobs.length ? el("ul", { class: "jobs" }, data.jobs.map(card)) : el("p", { class: "quiet" }, empty),
    paging,
    data.hidden ? el("p", { class: "quiet" }, `${counts(data.hidden, "older one is", "older ones are")} not listed here: followers jobs --limit N`) : null,
    el("h2", {}, "Accounts"),
    data.accounts.length ? el("ul", { class: "cards" }, data.accounts.map(accountCard))
      : el("p", { class: "quiet" }, "None is configured."),
    el("h2", {}, "Dead letters ", el("span", { class: "count" }, number(data.dead))),
    data.letters.length ? el("ul", { class: "letters" }, data.letters.map((letter) => letterRow(letter, data.steer)))
      : el("p", { class: "quiet" }, "None: every command could be done."),
    data.dead > data.letters.length && data.letters.length
      ? el("p", { class: "quiet" }, `The newest ${data.letters.length}; all of them: followers dead list`) : null,
  );
}

function happening(event) {
  const tells = {
    started: () => (event.page > 1 ? `goes on at page ${number(event.page)}` : "starts at page 1"),
    waiting: () => {
      const text = event.wait ? dated(event.wait.text) : "";
      const until = TIMES.test(event.wait ? event.wait.text : "") ? "" : `, until ${timeOf(event.until)}`;
      return `${words(event.reason)}${until}${text && `: ${text}`}`;
    },
    completed: () => `${counts(event.followers, "follower")} on ${counts(event.pages, "page")} in ${counts(event.requests, "request")}, ` +
      [event.verdict, event.reason && words(event.reason)].filter(Boolean).join(": ") +
      (event.dropped ? `, ${counts(event.dropped, "duplicate")} dropped` : ""),
    failed: () => `${event.error.code}: ${event.error.message}`,
  };
  const again = event.attempt > 1 ? ` attempt ${event.attempt}` : "";
  const retried = event.generation > 1 ? ` retry ${event.generation - 1}` : "";
  return el("li", { class: event.type },
    pill(event.type), el("span", { class: "quiet" }, ` ${timeOf(event.at)}${again}${retried}`),
    el("span", { class: "note" }, tells[event.type] ? tells[event.type]() : ""));
}

function jobPage(data) {
  const job = data.job;
  const back = el("p", {}, el("a", { href: "#/" }, "← all jobs"));
  if (!job) {
    show(back, el("h2", { class: "id" }, data.id),
      el("p", { class: "quiet" }, "No worker has seen this job, and its command was not found in the queue: it was never published, or all of it is too long ago."));
    return;
  }
  const facts = [
    ["followers", counted(job)], ["pages", number(job.page)], ["provider", job.provider], ["account", job.account],
    ["OA", job.oa], ["rate", job.rate && `${number(job.rate)} followers/s`], ["ETA", job.eta && when(job.eta, "in")],
    ["waits for", job.wait ? counting(job.wait.text) : job.state === "waiting" && words(job.reason)],
    ["since", job.wait && when(job.wait.since, "ago")], ["position", job.wait && job.wait.position && number(job.wait.position)],
    ["until", job.state === "waiting" && job.until && when(job.until, "in")],
    ["verdict", job.verdict && [job.verdict, job.reason && words(job.reason)].filter(Boolean).join(": ")],
    ["attempt", job.attempt > 1 && number(job.attempt)], ["worker", job.worker],
    ["started", job.started && timeOf(job.started)], ["finished", job.finished && timeOf(job.finished)],
    ["updated", when(job.updated, "ago")],
  ].filter(([, value]) => value);
  const acts = [];
  if (data.steer && !OVER.has(job.state)) {
    acts.push(el("button", { class: "danger", onclick: () => steerBy("Cancel this job?",
      `${job.id} stops within a page. What it has published stays.`, `jobs/${encodeURIComponent(job.id)}/cancel`) }, "Cancel"));
  }
  if (data.steer && job.state === "failed") {
    acts.push(el("button", { class: "strong", onclick: () => steerBy("Retry this job?",
      `${job.id} goes on behind its last published page.`, `jobs/${encodeURIComponent(job.id)}/retry`) }, "Retry"));
  }
  show(back,
    el("div", { class: "title" }, el("h2", { class: "id" }, job.id), pill(job.state), acts),
    meter(job),
    job.error ? el("p", { class: "error" }, el("b", {}, job.error.code), ` ${job.error.message}`) : null,
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("h2", {}, "Timeline"),
    data.more ? el("p", { class: "quiet" }, "Some events in the middle are not shown.") : null,
    data.events.length ? el("ol", { class: "timeline" }, data.events.map(happening)) : el("p", { class: "quiet" }, "No event yet."));
}

// Turn what is shown into the new picture, and leave alone what is the same: a click that began on a link ends on
// it, and what has the focus keeps it. Children with a key are known by it wherever they move to.
function show(...nodes) {
  morphChildren($("main"), nodes.filter(Boolean));
}

function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return fresh;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  old.onclick = fresh.onclick;
  morphChildren(old, [...fresh.childNodes]);
  return old;
}

function morphChildren(parent, fresh) {
  const keyed = new Map([...parent.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  const keys = new Set(fresh.map((node) => node.dataset && node.dataset.key).filter(Boolean));
  let at = parent.firstChild;
  for (const node of fresh) {
    const key = node.dataset && node.dataset.key;
    // What a later child is known by must not become this one.
    while (!key && at && at.dataset && keys.has(at.dataset.key)) at = at.nextSibling;
    const old = key ? keyed.get(key) : at;
    if (!old || (!key && old.dataset && old.dataset.key)) {
      parent.insertBefore(node, at);
    } else {
      if (old !== at) parent.insertBefore(old, at);
      at = morph(old, node).nextSibling;
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function health(data) {
  const bad = data.why || data.trouble;
  $("health").className = `pill ${bad ? "failed" : "completed"}`;
  $("health").textContent = bad || "live";
  $("worker").textContent = data.worker;
}

let painted = "";
function listen(path, event, paint) {
  if (source) source.close();
  painted = "";
  source = new EventSource(path);
  source.addEventListener("clock", ({ data }) => { clock = new Date(JSON.parse(data).now) - Date.now(); });
  source.addEventListener(event, ({ data }) => {
    const told = JSON.parse(data);
    health(told);
    if (selecting() || data === painted) return;
    painted = data;
    paint(told);
  });
  source.addEventListener("error", () => {
    $("health").className = "pill waiting";
    $("health").textContent = "connection lost, trying again";
    // A stream that was refused, not broken, is not tried again by the browser.
    if (source.readyState === EventSource.CLOSED) setTimeout(route, 3000);
  });
}

// Whoever is marking text, to copy it, must not lose it to the next picture.
const selecting = () => !getSelection().isCollapsed && $("main").contains(getSelection().anchorNode);

function route() {
  const job = location.hash.match(/^#\/jobs\/([^/?]+)$/);
  if (job) {
    const id = decodeURIComponent(job[1]);
    document.title = `${id} · followers`;
    listen(`stream/jobs/${encodeURIComponent(id)}`, "job", jobPage);
  } else {
    document.title = "followers";
    const { state, page } = query();
    listen(`stream?${new URLSearchParams({ state, page })}`, "overview", overview);
  }
}

function ask(title, text) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-label").hidden = token !== null;
  $("ask-token").value = "";
  const dialog = $("ask");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

async function steerBy(title, text, path) {
  if (!(await ask(title, text))) return;
  const used = token || $("ask-token").value.trim();
  $("ask-token").value = "";
  let said;
  try {
    const answer = await fetch(path, { method: "POST", headers: { Authorization: `Bearer ${used}` }, cache: "no-store" });
    const body = await answer.json();
    token = answer.status === 403 ? null : used;
    said = body.message || (body.sequence ? "The command is published anew." : `The job is ${body.state}.`);
  } catch {
    said = "The worker could not be reached: try again.";
  }
  $("notice").textContent = said;
  $("notice").hidden = false;
  setTimeout(() => { $("notice").hidden = true; }, 8000);
}

addEventListener("hashchange", route);
setInterval(() => document.querySelectorAll("time").forEach(count), 1000);
route();
