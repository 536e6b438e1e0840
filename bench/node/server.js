// A range server as Node programs are often written: express asks S3 for the object's head, says
// 206 with the range's headers, and pipes what getObject gives into the response.
//
// It has what a fair comparison needs and such programs often lack: connections to S3 are kept and
// not scarce, and what a client leaves behind is ended.
"use strict";

const http = require("node:http");
const AWS = require("aws-sdk");
const express = require("express");

const { ORIGIN, BUCKET } = process.env;

const store = new AWS.S3({
  endpoint: ORIGIN,
  s3ForcePathStyle: true,
  httpOptions: { agent: new http.Agent({ keepAlive: true, maxSockets: 256, maxFreeSockets: 256 }) },
});

// One range of the form a-b or a-; the benchmark asks for no other.
function wantedRange(header, size) {
  const match = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (match === null) return null;
  const first = Number(match[1]);
  const last = match[2] === "" ? size - 1 : Math.min(Number(match[2]), size - 1);
  return first <= last ? { first, last } : null;
}

function send(request, response, object, facts) {
  const range = wantedRange(request.headers.range, facts.ContentLength);
  const wanted = { ...object };
  response.set("Accept-Ranges", "bytes");
  response.type(facts.ContentType);
  if (range === null) {
    response.status(200).set("Content-Length", String(facts.ContentLength));
  } else {
    response.status(206);
    response.set("Content-Range", `bytes ${range.first}-${range.last}/${facts.ContentLength}`);
    response.set("Content-Length", String(range.last - range.first + 1));
    wanted.Range = `bytes=${range.first}-${range.last}`;
  }
  const body = store.getObject(wanted).createReadStream();
  body.on("error", () => response.destroy());
  response.on("close", () => body.destroy());
  body.pipe(response);
}

const app = express();
app.get("/:key", (request, response) => {
  const object = { Bucket: BUCKET, Key: request.params.key };
  store.headObject(object, (error, facts) => {
    if (error) {
      response.status(error.statusCode ?? 502).json({ error: error.code });
    } else {
      send(request, response, object, facts);
    }
  });
});

const server = app.listen(0, "127.0.0.1", () => {
  console.log(`listening at port ${server.address().port}`);
});
