// <relaunch-button lab="1001" token-url="/lab-token">: relaunches a lab, tells what goes on.

const HOME = new URL("..", import.meta.url).href;
const STEPS = ["ending", "teardown", "starting", "ready"];
const PHASES = [/displ/, /tearing|look/, /verif|enter/];
const TEXTS = { lab: "lab", button: "Relaunch {lab}" };

const json = (url) => fetch(url).then((r) => (r.ok ? r.json() : null));
const styled = fetch(`${HOME}button/relaunch-button.css`).then((r) => r.text())
	.then((style) => new CSSStyleSheet().replace(style));
const make = (tag, part, attributes, ...children) => {
	const node = document.createElement(tag);
	for (const [name, value] of Object.entries({ part, ...attributes }))
		if (value) node.setAttribute(name, value);
	node.append(...children.filter(Boolean));
	return node;
};
const web = (url) => /^https?:/i.test(url) ? url : null;
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
	const box = make("div", "box", { role: "group" }), live = make("p", "live", { role: "status" });
	root.append(box, live);
	let texts = TEXTS, lang = "en", view;
	let stop, soon, beat; // ends everything; two timers
	let held, current; // the token; the lab to return to
	let win, waiting; // the lab's window (null: blocked); whether only our note is in it
	let run = {}; // known: begun for sure; torn: a lab has to go

	const get = (name) => host.getAttribute(name);
	const service = () => (get("service") || HOME).replace(/\/$/, "");
	const key = () => `relaunch ${get("lab")}`;
	const ours = (other) => other.lab_profile_id === +get("lab");
	const unsent = () => { throw { again: !stop.signal.aborted }; };
	const say = (text) => { live.textContent = text; };
	const emit = (name, detail) =>
		host.dispatchEvent(new CustomEvent(`relaunch-${name}`, { detail, bubbles: true, composed: true }));

	async function speak() {
		const known = (name) => json(`${service()}/button/texts/${name}.json`);
		const given = get("texts");
		const wanted = host.closest("[lang]")?.lang || navigator.language;
		try {
			root.adoptedStyleSheets = [await styled];
			const own = given?.[0] === "{" ? JSON.parse(given) : given && await json(given);
			const found = await known(wanted.split("-")[0]);
			texts = { ...TEXTS, ...(found ?? await known("en")), ...own };
			[lang] = Intl.getCanonicalLocales(found || own ? wanted : "en");
		} catch {} // what there was stays
		box.lang = lang;
		show(view ?? idle);
	}

	function text(name, values) {
		const all = { lab: get("lab-name") || texts.lab, ...values };
		return (texts[name] ?? name).replace(/\{(\w+)\}/g, (whole, name) => all[name] ?? whole);
	}

	function usually(seconds) {
		if (!seconds) return;
		const [unit, size] = seconds[1] < 180 ? ["second", 1] : ["minute", 60];
		const format = new Intl.NumberFormat(lang, { style: "unit", unit, unitDisplay: "short" });
		return text("usual", { range: format.formatRange(...seconds.map((s) => Math.ceil(s / size))) });
	}

	function show(next, aloud) {
		const focused = root.activeElement, old = next === view && box.firstChild;
		const [first, ...rest] = next().filter(Boolean);
		view = next;
		box.part = rest[0] ? "box card" : "box";
		box.ariaLabel = text("button");
		if (old) { // keeps place and focus
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
		clearTimeout(beat);
		if (!time) return;
		time.textContent = new Date(performance.now() - run.since).toISOString().slice(14, 19);
		beat = setTimeout(tick, 1000);
	}

	function act(name, work, kind = "main") {
		const button = make("button", `button ${kind}`, { type: "button" }, text(name));
		button.onclick = () => attempt(work);
		return button;
	}

	const note = (name) => name && make("p", "note", null, text(name));
	const again = (name, kind) => act(name, press, kind);
	const back = () => current && act("back", () => visit(current), "");
	const title = (name, bad = "") => make("p", `title ${bad}`, { tabindex: "-1" }, text(name));
	const card = (name, notes, acts, bad) =>
		[title(name, bad), ...notes.map(note), make("div", "acts", null, ...acts)];

	const idle = () => [Object.assign(again(run.busy ? "checking" : "button"), run.busy && { ariaDisabled: true })];

	function confirm({ lab_instance_id: id, lab_profile_name, started_at, usual_seconds }) {
		const time = new Date(started_at * 1000).toLocaleString(lang, { dateStyle: "medium", timeStyle: "short" });
		return card("confirm", [text("lost_work", { name: lab_profile_name ?? id, time }), usually(usual_seconds)], [
			act("yes", () => start(id)), back(), act("cancel", () => show(idle), "no"),
		]);
	}

	function running() {
		const { known, step, torn, usual, lost, hold } = run;
		const steps = STEPS.map((name, i) => make("li", i < step ? "step past" : "step", {
			"aria-current": i === step && "step",
			hidden: i < 2 && step > 1 && !torn && "x",
		}, text(name), i === 1 && make("span", "note", null, usually(usual))));
		return [
			title("running"), make("span", "time"), make("ol", "steps", null, ...steps), note(known ? lost ? "lost" : hold || "close" : "checking"),
		];
	}

	function failed({ outcome, reason, left, cancelled_instance_ids: [gone], relaunch_id: id }) {
		return card(outcome, [
			texts[reason] ?? "later",
			left.cancel_in_doubt || left.launch_in_doubt_tag ? "doubt"
				: left.tearing_down[0] ? "tearing" : gone ? "gone" : "untouched",
			/out|platf|ans|sent/.test(outcome + reason) && texts[reason] && "later",
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

	async function attempt(work) {
		const { signal } = stop;
		try {
			await work();
		} catch (e) {
			clearTimeout(soon);
			if (signal.aborted) return;
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
		show(idle);
		soon = setTimeout(open, 700); // later, it is a pop-up
		const mine = await labs();
		const [{ relaunches: [other] }, { running }] = await Promise.all([
			ask("/relaunches?in_flight=true"), ask(`${mine}?lab_profile_id=${get("lab")}`),
		]);
		clearTimeout(soon);
		if (other && !ours(other)) throw { code: "relaunch_in_flight" };
		if (other) return open(), follow(other);
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
		const options = {
			method: "POST",
			headers: { "Idempotency-Key": `${Date.now() + Math.random()}`, "Content-Type": "application/json" },
			body: JSON.stringify({ lab_profile_id: +get("lab"), displace_instance_id, policy: { choose: "named" } }),
		};
		const response = await patient(() => call("/relaunches", options), 5);
		await follow(await response.json(), response.status === 202);
	}

	function begin(known) {
		run = { busy: true, known, step: -1, since: performance.now() };
		show(running, true);
	}

	// `mine`: nobody else uses its single-use URL.
	async function follow(relaunch, mine) {
		const { signal } = stop, path = `/relaunches/${relaunch.relaunch_id}`;
		memory[key()] = relaunch.relaunch_id;
		begin(true);
		progress(relaunch);
		for (let polling, etag; !relaunch.outcome; signal.throwIfAborted()) {
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

	// The outcome; undefined: broken; null: kept back by a proxy.
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
			for (let chunk; !(chunk = await reader.read()).done; ) {
				came = true;
				expect(4e4); // 2.5 heartbeats
				const blocks = (rest + chunk.value).split(/\r?\n\r?\n/);
				rest = blocks.pop();
				for (const block of blocks) {
					const { event, id, data } = Object.fromEntries(block.split(/\r?\n/).map((line) => line.split(/: ?(.*)/)));
					if (!data) continue;
					run.last = id;
					if (event === "outcome") return JSON.parse(data);
					progress(JSON.parse(data));
				}
			}
		} catch (e) {
			if (came) return;
			if (watch.signal.aborted) return null;
			throw e;
		} finally {
			watch.abort();
		}
	}

	function progress(p) {
		const { step, torn } = run;
		let now = PHASES.findIndex((phases) => phases.test(p.phase));
		// Then a launch is a look.
		if (p.phase === "launching") now = torn || p.ending_instance_id ? 1 : 2;
		run.step = now < 0 ? step : now;
		run.torn ||= now === 0 || now === 1;
		run.hold = /back/.test(p.phase) && "hold";
		run.usual = p.usual_seconds ?? run.usual;
		run.since = performance.now() - 1000 * (p.elapsed_seconds + (p.now - p.at || 0));
		if (step !== run.step) say(text(STEPS[now]));
		show(running);
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
		if (win?.closed === false && !choose && !(mine && url)) url = await pass(id).catch(() => url);
		go(url);
		show(() => ready(id, url, choose), true);
	}

	function open() {
		win = window.open("", "lab", "width=800,height=600");
		try {
			if (win.location.href !== "about:blank") return;
			const { body } = win.document;
			win.document.title = body.textContent = text("opens");
			body.style = "font:1.2em system-ui;margin:3em";
			waiting = true;
		} catch {} // a lab is in it
	}

	const shut = () => { waiting &&= win.close(); };

	function go(url) {
		if (!url || win?.closed !== false) return;
		win.location.replace(url);
		waiting = false;
		run.open = true;
	}

	async function visit(id, url) {
		open();
		url = await pass(id).catch((e) => url || Promise.reject(e));
		go(url);
		show(() => ready(id, url), true);
	}

	const pass = async (id) => web((await ask(`${await labs()}/${id}/access-url`, { method: "POST" })).url);

	function heard({ source, data }) {
		if (!run.open || source !== win || !/labDone/.test(JSON.stringify(data))) return;
		run = {};
		show(() => [note("ended"), again("button")], true);
	}

	// A reload or another tab takes up what was remembered.
	async function rejoin() {
		const id = memory[key()];
		if (run.busy || !(id || get("token"))) return;
		try {
			const found = await patient(() => ask(`/relaunches${id ? `/${id}` : "?in_flight=true"}`));
			const relaunch = id ? found : found.relaunches.find(ours);
			if (run.busy) return;
			if (relaunch?.now < relaunch?.updated_at + 3600) return attempt(() => follow(relaunch));
		} catch {}
		delete memory[key()];
	}

	async function token(fresh) {
		const url = get("token-url");
		if (!url) return get("token");
		if (fresh || !held) {
			const response = await fetch(url, { cache: "no-store" }).catch(unsent);
			if (!response.ok) throw { code: "token_expired" };
			held = (await response.json()).token;
		}
		return held;
	}

	const labs = async () => `/users/${encodeURIComponent(subject(await token()))}/labs`;
	const ask = async (path, options) => (await call(path, options)).json();

	async function call(path, { headers, signal = AbortSignal.timeout(3e4), ...options } = {}) {
		for (let fresh = false; ; fresh = true) {
			const response = await fetch(service() + path, {
				...options, credentials: "omit", signal: AbortSignal.any([stop.signal, signal]),
				headers: { ...headers, Authorization: `Bearer ${await token(fresh)}` },
			}).catch(unsent);
			const { status } = response;
			if (status < 400) return lost(false), response;
			if (status === 401 && !fresh && get("token-url")) continue;
			throw {
				...await response.json().catch(() => {}),
				again: status === 429 || status > 499, after: response.headers.get("Retry-After"),
			};
		}
	}

	async function patient(work, tries = Infinity) {
		for (let n = 0; ; n++) {
			try {
				return await work();
			} catch (e) {
				if (!e.again || n >= tries) throw e;
				lost(true);
				await sleep((1e3 * e.after || Math.min(2e4, 400 * 2 ** n)) * (1 + Math.random()));
			}
		}
	}

	function lost(is) {
		if (!run.known || is === !!run.lost) return;
		run.lost = is;
		show(running);
		if (is) say(text("lost"));
	}

	return {
		speak,
		async begin() {
			stop = new AbortController();
			addEventListener("message", heard, stop);
			addEventListener("pagehide", shut, stop);
			box.onkeydown = (e) => {
				if (e.key === "Escape") root.querySelector("[part~=no]")?.click();
			};
			await speak();
			rejoin();
		},
		end() {
			stop.abort();
			run = {};
			show(idle);
		},
	};
}

customElements.define("relaunch-button", class extends HTMLElement {
	static observedAttributes = ["lang", "texts", "lab-name"];
	#button = relaunchButton(this);
	connectedCallback() { this.#button.begin(); }
	disconnectedCallback() { this.#button.end(); }
	attributeChangedCallback() { this.isConnected && this.#button.speak(); }
});
