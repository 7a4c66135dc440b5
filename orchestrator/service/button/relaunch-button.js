// <relaunch-button lab="1001" token-url="/lab-token">: relaunches a lab and says what is going on.

const HOME = new URL(".", import.meta.url);
const WINDOW = "width=800,height=600,resizable=yes,scrollbars=yes";
const STEPS = ["ending", "teardown", "starting", "ready"];
const STEP_OF = {
	displacing: 0, confirming_displace: 0, tearing_down: 1, looking: 1, verifying: 2, entering: 2,
};
// Until the service has given the rest.
const TEXTS = { lab: "lab", button: "Relaunch {lab}", unreachable: "The relaunch service doesn’t answer." };

const unsent = () => { throw { again: true }; };
const load = (url) => fetch(url, { credentials: "omit" }).then((r) => (r.ok ? r : null));
const json = (url) => load(url).then((r) => r?.json());
const styled = load(new URL("relaunch-button.css", HOME)).then(async (r) => {
	const sheet = new CSSStyleSheet();
	sheet.replaceSync(await r.text());
	return [sheet];
});
const make = (tag, part, attributes, ...children) => {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries({ part, ...attributes }))
		if (value) node.setAttribute(name, value);
	node.append(...children.filter(Boolean));
	return node;
};
const web = (url) => (/^https?:/i.test(url) ? url : null);
const subject = (token) => {
	const bytes = atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"));
	return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (c) => c.charCodeAt()))).sub;
};
const sleep = (ms) => new Promise((wake) => {
	setTimeout(wake, ms);
	addEventListener("online", wake, { once: true });
});
let memory = {};
try {
	memory = localStorage;
} catch {} // a frame without storage

function relaunchButton(host) {
	const root = host.attachShadow({ mode: "open" });
	const box = make("div", "box", { role: "group" });
	const live = make("p", "live", { role: "status" });
	root.append(box, live);
	let texts = TEXTS, lang = "en", view = idle;
	let stop; // ends everything when the element leaves the page
	let held; // the token in use
	let win; // the lab's window; null: blocked
	let waiting; // whether nothing but our note is in it
	let current; // the running lab to return to
	let run = {}; // busy, step, torn, usual, lost, since, last; open: the lab is

	const get = (name) => host.getAttribute(name);
	const service = () => (get("service") || new URL("..", HOME).href).replace(/\/+$/, "");
	const key = () => `relaunch ${service()} ${get("lab")}`;
	const ours = (relaunch) => relaunch.lab_profile_id === Number(get("lab"));
	const say = (text) => { live.textContent = text; };
	const emit = (name, detail) =>
		host.dispatchEvent(new CustomEvent(`relaunch-${name}`, { detail, bubbles: true, composed: true }));

	async function speak() {
		const known = (name) => json(`${service()}/button/texts/${name}.json`);
		const given = get("texts");
		const wanted = host.closest("[lang]")?.lang || navigator.language;
		try {
			const own = given?.[0] === "{" ? JSON.parse(given) : given && await json(given);
			const found = await known(wanted.split("-")[0]);
			texts = { ...TEXTS, ...(found ?? await known("en")), ...own };
			[lang] = Intl.getCanonicalLocales(found || own ? wanted : "en");
		} catch {} // what there was stays
		box.lang = lang;
		show(view);
	}

	function text(name, values) {
		const all = { lab: get("lab-name") || texts.lab, ...values };
		return String(texts[name] ?? name).replace(/\{(\w+)\}/g, (whole, name) => all[name] ?? whole);
	}

	function usually(seconds) {
		if (!seconds) return;
		const [unit, size] = seconds[1] < 180 ? ["second", 1] : ["minute", 60];
		const format = new Intl.NumberFormat(lang, { style: "unit", unit, unitDisplay: "short" });
		return text("usual", { range: format.formatRange(...seconds.map((s) => Math.ceil(s / size))) });
	}

	// --- what is shown

	function show(next, aloud) {
		const focused = root.activeElement;
		const old = next === view && box.firstChild;
		const [first, ...rest] = next().filter(Boolean);
		view = next;
		box.part = rest[0] ? "box card" : "box";
		box.ariaLabel = text("button");
		if (old) { // stays in its place, and keeps the focus
			old.textContent = first.textContent;
			while (old.nextSibling) old.nextSibling.remove();
			box.append(...rest);
		} else box.replaceChildren(first, ...rest);
		if (focused && !root.activeElement) box.querySelector("[tabindex], button").focus();
		else if (aloud) say(first.textContent);
		tick();
	}

	function tick() {
		const time = root.querySelector("[part=time]");
		const seconds = Math.floor((performance.now() - run.since) / 1000);
		if (time) time.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, 0)}`;
	}

	function act(name, work, kind = "main") {
		const button = make("button", `button ${kind}`, { type: "button" }, text(name));
		button.onclick = () => attempt(work);
		return button;
	}

	const note = (name) => name && make("p", "note", {}, text(name));
	const again = (name, kind) => act(name, press, kind);
	const back = () => current && act("back", () => visit(current), "");
	const card = (title, notes, acts, bad = "") => [
		make("p", `title ${bad}`, { tabindex: "-1" }, text(title)),
		...notes.map(note),
		make("div", "acts", {}, ...acts),
	];

	function idle() {
		return [again("button")];
	}

	function checking() {
		return [Object.assign(again("checking"), { ariaDisabled: true })];
	}

	function confirm({ lab_instance_id: id, lab_profile_name, started_at, usual_seconds }) {
		const format = { dateStyle: "medium", timeStyle: "short" };
		const time = new Date(started_at * 1000).toLocaleString(lang, format);
		const lost = text("lost_work", { name: lab_profile_name ?? id, time });
		return card("confirm", [lost, usually(usual_seconds)], [
			act("yes", () => start(id)), back(), act("cancel", () => show(idle), "no"),
		]);
	}

	function running() {
		const { step, torn, usual, lost } = run;
		const steps = STEPS.map((name, i) => make("li", i < step ? "step past" : "step", {
			"aria-current": i === step && "step",
			hidden: i < 2 && step > 1 && !torn && "x",
		}, text(name), i === 1 && make("span", "note", {}, usually(usual))));
		const [title] = card("running", [], []);
		const time = make("span", "time", { role: "timer" });
		return [title, time, make("ol", "steps", {}, ...steps), note(lost ? "lost" : "close")];
	}

	function failed({ outcome, reason, left, cancelled_instance_ids: [gone], relaunch_id: id }) {
		const doubt = left?.cancel_in_doubt || left?.launch_in_doubt_tag;
		return card(outcome, [
			texts[reason],
			doubt ? "doubt" : left?.tearing_down[0] ? "tearing" : gone ? "gone" : "untouched",
			/failed|timed/.test(outcome) && "later",
			text("reference", { id }),
		], [again("again"), !gone && back()], "bad");
	}

	function ready(id, url, choose) {
		const blocked = win === null && url;
		const link = make("a", "button main", { href: url, target: "lab" }, text("open"));
		return card(choose ? "choose" : "done", [choose && "page", blocked && "blocked"], [
			blocked ? link : act("open", () => visit(id, url)), again("button", ""),
		]);
	}

	// --- what is done

	async function attempt(work) {
		try {
			await work();
		} catch (e) {
			if (stop.signal.aborted) return;
			run = {};
			shut();
			emit("error", e);
			const why = texts[e.code] ? e.code : e.again ? "unreachable" : "denied";
			show(() => card("trouble", [why], [again("again")], "bad"), true);
		}
	}

	async function press() {
		if (run.busy) return;
		run = { busy: true };
		held = null;
		show(checking);
		const soon = setTimeout(open, 700); // later it would count as a pop-up
		const [{ relaunches: [other] }, { running }] = await Promise.all([
			ask("/relaunches?in_flight=true"), ask(`${await labs()}?lab_profile_id=${get("lab")}`),
		]).finally(() => clearTimeout(soon));
		if (other) {
			if (!ours(other)) throw { code: "relaunch_in_flight" };
			open();
			return follow(other);
		}
		const ending = running.find((l) => l.would_end);
		const { may_enter, lab_instance_id } = ending ?? running.find((l) => l.is_exam) ?? {};
		current = may_enter && lab_instance_id;
		if (!ending) return start();
		shut();
		run = {};
		show(() => confirm(ending), true);
	}

	async function start(displace_instance_id) {
		open();
		begin();
		const headers = { "Idempotency-Key": `${Date.now()}-${Math.random()}` };
		const body = { lab_profile_id: Number(get("lab")), displace_instance_id };
		const response = await patient(() => call("/relaunches", { method: "POST", headers, body }), 5);
		await follow(await response.json(), response.status === 202);
	}

	function begin() {
		run = { busy: true, step: -1, since: performance.now() };
		show(running, true);
	}

	// `mine`: nobody else uses the single-use URL of its outcome.
	async function follow(relaunch, mine) {
		const path = `/relaunches/${relaunch.relaunch_id}`;
		memory[key()] = relaunch.relaunch_id;
		begin();
		progress(relaunch);
		for (let polling, etag; !relaunch.outcome; ) {
			relaunch = await patient(async () => {
				const end = polling ? null : await stream(path);
				if (end !== null) return end ?? relaunch;
				polling = true;
				const response = await call(path, { headers: etag && { "If-None-Match": etag } });
				etag = response.headers.get("ETag");
				return response.status === 304 ? relaunch : response.json();
			});
			if (polling) progress(relaunch);
			if (!relaunch.outcome) await sleep(1500 + 1000 * Math.random());
		}
		ended(relaunch, mine);
	}

	// The outcome; undefined: the stream broke; null: a proxy keeps it back.
	async function stream(path) {
		const watch = new AbortController();
		let timer, came, rest = "";
		const expect = (ms) => {
			clearTimeout(timer);
			timer = setTimeout(() => watch.abort(), ms);
		};
		expect(5e3);
		try {
			const headers = run.last && { "Last-Event-ID": run.last };
			const { body } = await call(`${path}/events`, { headers, signal: watch.signal });
			const reader = body.pipeThrough(new TextDecoderStream()).getReader();
			for (;;) {
				const { done, value } = await reader.read();
				if (done) return;
				came = true;
				expect(4e4); // two and a half heartbeats
				const blocks = (rest + value).split(/\r?\n\r?\n/);
				rest = blocks.pop();
				for (const block of blocks) {
					const lines = block.split(/\r?\n/).map((line) => line.split(/: ?(.*)/));
					const { event, id, data } = Object.fromEntries(lines);
					if (!data) continue;
					run.last = id;
					if (event === "outcome") return JSON.parse(data);
					progress(JSON.parse(data));
				}
			}
		} catch (e) {
			if (stop.signal.aborted || (!came && !watch.signal.aborted)) throw e;
			if (!came) return null;
		} finally {
			clearTimeout(timer);
			watch.abort();
		}
	}

	function progress(p) {
		const { step, usual, torn } = run;
		const starting = torn || p.ending_instance_id ? 1 : 2; // while it tears down, a launch is a look
		run.step = p.phase === "launching" ? starting : STEP_OF[p.phase] ?? step;
		run.torn ||= run.step === 0 || run.step === 1;
		run.usual = p.usual_seconds ?? usual;
		run.since = performance.now() - 1000 * (p.elapsed_seconds + (p.at ? p.now - p.at : 0));
		if (step !== run.step) say(text(STEPS[run.step]));
		if (step !== run.step || `${usual}` !== `${run.usual}`) show(running);
		emit("progress", p);
	}

	async function ended(relaunch, mine) {
		const { outcome, lab_instance_id: id } = relaunch;
		const choose = outcome === "choose";
		let url = web(relaunch.url);
		delete memory[key()];
		emit("outcome", relaunch);
		run = {};
		if (!choose && !/launched|reused/.test(outcome)) {
			shut();
			return show(() => failed(relaunch), true);
		}
		if (waiting && !choose && !(mine && url)) url = await pass(id).catch(() => url);
		go(url);
		show(() => ready(id, url, choose), true);
	}

	// --- the lab's window

	function open() {
		win = window.open("", "lab", WINDOW);
		try {
			if (win.location.href !== "about:blank") return;
			win.document.title = win.document.body.textContent = text("opens");
			waiting = true;
		} catch {} // a lab is in it
	}

	function shut() {
		if (waiting) win.close();
		waiting = false;
	}

	function go(url) {
		if (!url || !win || win.closed) return;
		win.location.replace(url);
		waiting = false;
		run.open = true;
	}

	async function visit(id, url) {
		open();
		url = await pass(id).catch((e) => { if (!url) throw e; }) ?? url;
		go(url);
		show(() => ready(id, url), true);
	}

	async function pass(id) {
		return web((await ask(`${await labs()}/${id}/access-url`, { method: "POST" })).url);
	}

	function heard({ source, data }) {
		if (!run.open || source !== win || !/labDone/.test(JSON.stringify(data))) return;
		run = {};
		show(() => [note("ended"), again("button")], true);
	}

	// --- the service

	// A reload or another tab takes up what was remembered.
	async function rejoin() {
		const id = memory[key()];
		if (run.busy || !(id || get("token"))) return;
		try {
			const found = await patient(() => ask(`/relaunches${id ? `/${id}` : "?in_flight=true"}`));
			const relaunch = id ? found : found.relaunches.find(ours);
			if (run.busy || relaunch?.now - relaunch?.updated_at < 3600) return attempt(() => follow(relaunch));
		} catch {}
		delete memory[key()];
	}

	async function token(fresh) {
		const url = get("token-url");
		if (!fresh) held ??= get("token");
		if (url && (fresh || !held)) {
			const response = await fetch(url, { cache: "no-store" }).catch(unsent);
			if (!response.ok) throw { code: "token_expired" };
			held = (await response.json()).token;
		}
		return held;
	}

	const labs = async () => `/users/${encodeURIComponent(subject(await token()))}/labs`;
	const ask = async (path, options) => (await call(path, options)).json();

	async function call(path, { method, headers, body, signal = AbortSignal.timeout(3e4) } = {}) {
		for (let fresh = false; ; fresh = true) {
			const Authorization = `Bearer ${await token(fresh)}`;
			const response = await fetch(service() + path, {
				method, headers: { ...headers, Authorization, ...(body && { "Content-Type": "application/json" }) },
				body: body && JSON.stringify(body), credentials: "omit", cache: "no-store",
				signal: AbortSignal.any([stop.signal, signal]),
			}).catch(unsent);
			const { status } = response;
			if (response.ok || status === 304) {
				lost(false);
				return response;
			}
			if (status === 401 && !fresh && get("token-url")) continue;
			const after = response.headers.get("Retry-After");
			throw { ...(await response.json().catch(() => {})), after, again: status === 429 || status > 499 };
		}
	}

	// A lost connection is no failure.
	async function patient(work, tries = Infinity) {
		for (let n = 0; ; n++) {
			try {
				return await work();
			} catch (e) {
				if (!e.again || stop.signal.aborted || n >= tries) throw e;
				lost(true);
				await sleep(Math.max(1e3 * e.after, Math.min(3e4, 500 * 2 ** n) * (0.5 + Math.random())));
			}
		}
	}

	function lost(is) {
		if (!("step" in run) || is === !!run.lost) return;
		run.lost = is;
		show(running);
		if (is) say(text("lost"));
	}

	return {
		speak,
		forget: () => { held = null; },
		async begin() {
			stop = new AbortController();
			const { signal } = stop;
			const clock = setInterval(tick, 1000);
			signal.onabort = () => clearInterval(clock);
			addEventListener("message", heard, { signal });
			addEventListener("pagehide", shut, { signal });
			addEventListener("storage", (e) => e.key === key() && e.newValue && rejoin(), { signal });
			box.onkeydown = (e) => e.key === "Escape" && root.querySelector("[part~=no]")?.click();
			root.adoptedStyleSheets = await styled;
			await speak();
			rejoin();
		},
		end() {
			stop.abort();
			run = {};
		},
	};
}

customElements.define("relaunch-button", class extends HTMLElement {
	static observedAttributes = ["lang", "texts", "lab-name", "token"];
	#button = relaunchButton(this);
	connectedCallback() { this.#button.begin(); }
	disconnectedCallback() { this.#button.end(); }
	attributeChangedCallback(name) {
		if (name === "token") this.#button.forget();
		else if (this.isConnected) this.#button.speak();
	}
});
