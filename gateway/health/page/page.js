"use strict";

const INTERVAL_MS = 2000;
const WELL = new Set(["ok", "connected"]);
const WAITING = new Set(["connecting", "paused", "stopped"]);
const at = (id) => document.getElementById(id);

// Everything shown goes through textContent: what a device says of itself is never markup.
function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const part of content) made.append(part);
  return made;
}

function count(number) { return number.toLocaleString("en"); }

function bytes(number) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (number < 1024) return `${number.toFixed(unit === "B" ? 0 : 1)} ${unit}`;
    number /= 1024;
  }
  return `${number.toFixed(1)} TiB`;
}

function seconds(number) {
  if (number === null) return "unknown";
  if (number < 1) return `${Math.round(number * 1000)} ms`;
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (number >= length) return `${(number / length).toFixed(1)} ${unit}`;
  return `${number.toFixed(1)} s`;
}

function instant(ms) { return ms === null ? "never" : new Date(ms).toLocaleString(); }

function tone(state) { return WELL.has(state) ? "ok" : WAITING.has(state) ? "quiet" : state === "degraded" ? "degraded" : "failing"; }

function fill(id, rows) {
  at(id).replaceChildren(...rows.flatMap(([name, value, className]) => [element("dt", "", name), element("dd", className, value)]));
}

function reason({ text, do: act }) {
  return element("li", "", element("p", "", text), element("p", "quiet", act));
}

function device([name, device]) {
  const good = device.state === "ok" || device.state === "degraded" ? count(device.tags - device.bad_tags) : "–";
  const cycle = device.cycle_s.last === null ? "–" : `${seconds(device.cycle_s.last)} of ${seconds(device.cycle_s.interval)}`;
  const lines = [
    `${device.protocol}, ${device.address}`,
    `${good} of ${count(device.tags)} tags good, last ${instant(device.last_good_ms)}`,
    `poll ${cycle}; skipped ${count(device.skipped_cycles)}, reconnected ${count(device.reconnects)}`,
  ];
  const title = element("p", "name", element("span", "", name), element("span", tone(device.state), device.state));
  const error = device.error === null ? [] : [element("p", tone(device.state), device.error)];
  return element("li", "", title, ...error, ...lines.map((line) => element("p", "quiet", line)));
}

function show(health) {
  const { mqtt, buffer, ledger } = health;
  document.title = `${health.status}: ${health.gateway}`;
  at("gateway").textContent = health.gateway;
  badge(health.status, health.status);
  at("summary").textContent = `Version ${health.version}, up ${seconds(health.uptime_s)}, clock ` +
    { true: "synchronised", false: "not synchronised", null: "unknown" }[health.clock.synchronised];
  const none = element("li", "none", "Nothing.");
  at("reasons").replaceChildren(...(health.reasons.length ? health.reasons.map(reason) : [none]));
  at("devices").replaceChildren(...Object.entries(health.devices).map(device));
  fill("mqtt", [
    ["state", mqtt.error ?? mqtt.state, tone(mqtt.state)], ["address", mqtt.address],
    ["encrypted", mqtt.tls ? "yes" : "no"], ["last answer", mqtt.last_ack_age_s === null ? "never" : `${seconds(mqtt.last_ack_age_s)} ago`],
    ["published", count(mqtt.published)], ["refused", count(mqtt.rejected)], ["without subscriber", count(mqtt.unmatched)],
  ]);
  fill("buffer", [
    ["waiting", `${count(buffer.pending_readings)} readings`], ["oldest", buffer.pending_readings ? seconds(buffer.oldest_age_s) : "–"],
    ["size", `${bytes(buffer.bytes)} of ${bytes(buffer.max_bytes)}`], ["full in", buffer.full_in_s === null ? "not growing" : seconds(buffer.full_in_s)],
    ["disk", buffer.writable ? `${bytes(buffer.disk_free_bytes)} free` : "cannot be written", buffer.writable ? "" : "failing"],
  ]);
  fill("ledger", Object.entries(ledger).map(([name, value]) => [name, count(value)]));
  at("certificates-section").hidden = health.certificates.length === 0;
  fill("certificates", health.certificates.map((each) => [each.name, `${each.days_left} days left`]));
  at("main").hidden = false;
}

function badge(text, className) {
  at("status").textContent = text;
  at("status").className = `badge ${className}`;
}

let answered = null;

async function ask() {
  try {
    const response = await fetch("health", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const health = await response.json();
    if (!health.status) throw new Error(health.error);
    show(health);
    answered = Date.now();
    document.body.classList.remove("stale");
  } catch {
    badge("no answer", "failing");
    document.title = "no answer: edge-gateway";
    document.body.classList.add("stale");
    at("summary").textContent = answered === null ? "The gateway does not answer."
      : `The gateway has not answered since ${new Date(answered).toLocaleTimeString()}. What is below is from then.`;
  }
  setTimeout(ask, INTERVAL_MS);
}

ask();
