// grpc-js against our service: node client.js ADDRESS SCENARIO [CA TOKEN]. Exits with 0 if the scenario succeeds.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const ROOT = path.resolve(__dirname, "../../..");
const definition = loader.loadSync(["protos/execution.proto", "protos/streaming.proto"], {
  includeDirs: [ROOT],
  longs: Number,
  enums: String,
  oneofs: true,
  defaults: true,
});
const v1 = grpc.loadPackageDefinition(definition).remotemedia.v1;

const [address, scenario, ca, token] = process.argv.slice(2);
const credentials = ca ? grpc.credentials.createSsl(fs.readFileSync(ca)) : grpc.credentials.createInsecure();
const execution = new v1.PipelineExecutionService(address, credentials);
const streaming = new v1.StreamingPipelineService(address, credentials);
const metadata = new grpc.Metadata();
if (token) metadata.set("authorization", `Bearer ${token}`);

const ECHO = { version: "v1", nodes: [{ id: "in", nodeType: "PassThrough", params: "{}" }] };
const FRAMES = 320;
const soon = () => ({ deadline: Date.now() + 60000 });

function buffer(sequence) {
  const samples = Buffer.alloc(FRAMES * 2);
  for (let i = 0; i < FRAMES; i++) samples.writeInt16LE((sequence * 7 + i) % 32768, i * 2);
  return { samples, sampleRate: 16000, channels: 1, format: "AUDIO_FORMAT_I16", numSamples: FRAMES };
}

function unary(method, request, options = soon()) {
  return new Promise((resolve, reject) =>
    execution[method](request, metadata, options, (error, reply) => (error ? reject(error) : resolve(reply))));
}

// Opens a session; returns its call, a list that collects its events, and a promise of its end.
function open(manifest = ECHO, options = soon()) {
  const call = streaming.StreamPipeline(metadata, options);
  const events = [];
  const ended = new Promise((resolve) => {
    call.on("data", (event) => events.push(event));
    call.on("error", () => {}); // the status reports it too
    call.on("status", resolve);
  });
  call.write({ manifest });
  return { call, events, ended };
}

async function until(condition) {
  for (let i = 0; i < 12000; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`the condition never held: ${condition}`);
}

async function session(first, count) {
  const { call, events, ended } = open();
  for (let sequence = first; sequence < first + count; sequence++) {
    call.write({ audioChunk: { buffer: buffer(sequence), sequence } });
  }
  call.write({ control: { command: "COMMAND_CLOSE" } });
  call.end();
  const status = await ended;
  assert.equal(status.code, grpc.status.OK, status.details);
  assert.equal(events[0].response, "ready");
  const results = events.filter((each) => each.response === "result" && !each.flush);
  assert.deepEqual(results.map((each) => each.sequence), Array.from({ length: count }, (_, i) => first + i));
  for (const each of results) {
    assert.deepEqual(each.result.audioOutputs.in.samples, buffer(each.sequence).samples);
  }
  const last = events.at(-1);
  assert.equal(last.response, "metrics");
  assert.equal(last.metrics.delivered, count);
}

const scenarios = {
  async version() {
    const reply = await unary("GetVersion", { clientVersion: "v1" });
    assert.equal(reply.compatible, true);
    assert.ok(reply.versionInfo.supportedNodeTypes.includes("VAD"));
  },

  async execute() {
    const reply = await unary("ExecutePipeline", { manifest: ECHO, audioInputs: { in: buffer(3) } });
    assert.equal(reply.outcome, "result");
    assert.deepEqual(reply.result.audioOutputs.in.samples, buffer(3).samples);
  },

  async executeCompressed() {
    const compressed = new grpc.Client(address, credentials, { "grpc.default_compression_algorithm": 2 });
    const method = v1.PipelineExecutionService.service.ExecutePipeline;
    const request = { manifest: ECHO, audioInputs: { in: buffer(3) } };
    const reply = await new Promise((resolve, reject) =>
      compressed.makeUnaryRequest(method.path, method.requestSerialize, method.responseDeserialize, request, metadata,
        soon(), (error, answer) => (error ? reject(error) : resolve(answer))));
    assert.deepEqual(reply.result.audioOutputs.in.samples, buffer(3).samples);
    compressed.close();
  },

  stream: () => session(0, 200),

  streamsAtOnce: () => Promise.all(Array.from({ length: 30 }, (_, i) => session(i, 20))),

  async faults() {
    const { events, ended } = open({ version: "v1", nodes: [{ id: "a", nodeType: "Nonesuch" }] });
    const status = await ended;
    assert.equal(status.code, grpc.status.INVALID_ARGUMENT);
    assert.match(status.details, /manifest/);
    assert.ok(status.metadata.get("grpc-status-details-bin")[0].length > 0);
    assert.match(events[0].error.message, /nodes\[0\]\.node_type: 'Nonesuch' is unknown/);
  },

  async cancel() {
    const { call, events, ended } = open();
    await until(() => events.length);
    call.cancel();
    assert.equal((await ended).code, grpc.status.CANCELLED);
    await scenarios.version(); // the connection still works
  },

  async deadline() {
    const { ended } = open(ECHO, { deadline: Date.now() + 300 });
    assert.equal((await ended).code, grpc.status.DEADLINE_EXCEEDED);
    await scenarios.version();
  },

  async unimplemented() {
    const method = (bytes) => bytes;
    const call = () => new Promise((resolve, reject) =>
      execution.makeUnaryRequest("/no.Such/Method", method, method, Buffer.alloc(0), metadata, soon(),
        (error, reply) => (error ? reject(error) : resolve(reply))));
    await assert.rejects(call(), { code: grpc.status.UNIMPLEMENTED });
  },

  // A line on stdin says that the server drains: the session continues, and other calls reach the successor.
  async restart() {
    const { call, events, ended } = open();
    await until(() => events.length);
    console.log("ready");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    process.stdin.destroy();
    const codes = new Set();
    await until(() => unary("GetVersion", {}).then(() => true, (error) => { codes.add(error.code); return false; }));
    assert.ok([...codes].every((code) => code === grpc.status.UNAVAILABLE), `${[...codes]}`);
    call.write({ audioChunk: { buffer: buffer(0), sequence: 0 } });
    call.write({ control: { command: "COMMAND_CLOSE" } });
    call.end();
    assert.equal((await ended).code, grpc.status.OK);
    assert.equal(events.at(-1).metrics.delivered, 1);
  },

  async unauthenticated() {
    metadata.set("authorization", "Bearer of bad news");
    await assert.rejects(unary("GetVersion", {}), { code: grpc.status.UNAUTHENTICATED });
    const { ended } = open();
    assert.equal((await ended).code, grpc.status.UNAUTHENTICATED);
  },
};

scenarios[scenario]().then(
  () => { execution.close(); streaming.close(); },
  (error) => { console.error(error); process.exit(1); },
);
