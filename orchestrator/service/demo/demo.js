// The course page: who is looking at it, and the platform's own view beside the buttons.

const root = document.documentElement;
const buttons = document.querySelectorAll("relaunch-button");
const rows = document.querySelector("#instances");
const slot = document.querySelector("#slot");
const field = (id) => document.querySelector(`#${id}`);
const chosen = new URLSearchParams(location.search);
const learner = () => field("learner").value;

function cell(text, small) {
  const td = document.createElement("td");
  td.append(text);
  if (small) {
    const note = document.createElement("small");
    note.append(small);
    td.append(note);
  }
  return td;
}

function row(instance, now) {
  const since = new Date(1000 * (instance.ended_at ?? instance.started_at));
  const tr = document.createElement("tr");
  const state = document.createElement("span");
  state.className = "state";
  state.dataset.state = instance.state;
  state.append(instance.state);
  if (instance.ended_at) tr.dataset.gone = "";
  tr.append(
    cell(instance.lab_profile_name, `instance ${instance.lab_instance_id}`),
    cell(state),
    cell(since.toLocaleTimeString(root.lang, { timeStyle: "short" })),
  );
  return tr;
}

async function look() {
  try {
    const response = await fetch(`demo/platform?learner=${encodeURIComponent(learner())}`);
    const { instances, now } = await response.json();
    const newest = [...instances].sort((a, b) => b.lab_instance_id - a.lab_instance_id).slice(0, 5);
    rows.replaceChildren(...newest.map((instance) => row(instance, now)));
    const active = instances.filter((i) => !["Off", "Saved"].includes(i.state)).length;
    slot.textContent = `${active} of 1 places taken`;
  } catch {
    slot.textContent = "The service does not answer.";
  }
}

function apply() {
  for (const button of buttons) {
    button.setAttribute("token-url", `demo/token?learner=${encodeURIComponent(learner())}`);
    button.lang = field("language").value;
  }
  root.dir = field("rtl").checked ? "rtl" : "ltr";
  root.dataset.look = field("look").value;
}

for (const id of ["learner", "language", "look"]) {
  if (chosen.has(id)) field(id).value = chosen.get(id);
}
field("rtl").checked = chosen.has("rtl");
document.querySelector(".choices").addEventListener("change", (event) => {
  if (event.target.id !== "learner") return apply();
  // Another learner is another visit.
  chosen.set("learner", learner());
  location.search = chosen;
});
apply();
look();
setInterval(look, 1000);
