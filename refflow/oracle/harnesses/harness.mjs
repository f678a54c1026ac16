// A harness for `refflow check --command "node harness.mjs"`: Tanh and Affine in double.
import { createInterface } from "node:readline";

const SCHEMA = "refflow/protocol/1";
const logCosh = (z) => Math.abs(z) - Math.LN2 + Math.log1p(Math.exp(-2 * Math.abs(z)));
const PAGES = { // what each quantity is for one entry; p holds the fields
  Tanh: {
    forward: (p, z) => Math.tanh(z),
    log_det: (p, z) => (Math.abs(z) < 0.5 ? -Math.log1p(Math.sinh(z) ** 2) : -2 * logCosh(z)),
    inverse: (p, x) => Math.atanh(x),
    inverse_log_det: (p, x) => (Math.abs(x) < 0.5 ? -Math.log1p(-x * x) : -Math.log((1 - x) * (1 + x))),
  },
  Affine: {
    forward: (p, z) => p.scale * z + p.shift,
    log_det: (p, z) => Math.log(Math.abs(p.scale)),
    inverse: (p, x) => (x - p.shift) / p.scale,
    inverse_log_det: (p, x) => -Math.log(Math.abs(p.scale)),
  },
};

function fromHex(text) { // mantissa and exponent are exact, and so is their product
  const found = /^([-+]?)0x([0-9a-f]+)[.]?([0-9a-f]*)p([-+]?\d+)$/.exec(text);
  if (!found) return { inf: Infinity, "-inf": -Infinity, nan: NaN }[text];
  const [, sign, whole, fraction, exponent] = found;
  const size = Number(`0x${whole}${fraction}`) * 2 ** (Number(exponent) - 4 * fraction.length);
  return sign === "-" ? -size : size;
}
function toHex(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value < 0 ? "-inf" : "inf";
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  const [high, low] = [bits.getUint32(0), bits.getUint32(4)];
  const digits = (high & 0xfffff).toString(16).padStart(5, "0") + low.toString(16).padStart(8, "0");
  const exponent = (high >>> 20) & 0x7ff;
  return `${high >>> 31 ? "-" : ""}0x${exponent ? 1 : 0}.${digits}p${Math.max(exponent, 1) - 1023}`;
}
function known(message, ...keys) {
  const unknown = Object.keys(message).filter((key) => !keys.includes(key));
  if (unknown.length) throw new Error(`unknown field ${unknown[0]}`);
}
function answer(q) {
  if (q.request === "run") {
    known(q, "request", "id", "page", "dtype", "quantity", "params", "event", "image_bar", "log_det_bar");
    const p = Object.fromEntries(Object.entries(q.params).map(([key, a]) => [key, fromHex(a.values[0])]));
    const values = q.event.values.map((v) => toHex(PAGES[q.page][q.quantity](p, fromHex(v))));
    return { answer: "run", id: q.id, value: { shape: q.event.shape, values } };
  }
  known(q, "request", "schema");
  if (q.request === "start" && q.schema !== SCHEMA) throw new Error(`schema ${q.schema}`);
  const pages = Object.entries(PAGES).map(([page, has]) => ({ page, dtypes: ["float64"], quantities: Object.keys(has) }));
  return q.request === "start" ? { answer: "start", schema: SCHEMA, name: "JavaScript", pages } : { answer: "stop" };
}
for await (const line of createInterface({ input: process.stdin })) {
  let found;
  try { found = answer(JSON.parse(line)); } catch (error) { found = { answer: "refused", reason: String(error) }; }
  process.stdout.write(JSON.stringify(found) + "\n");
}
