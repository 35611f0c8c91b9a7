-- One request after the other of those in a file, over and over. wrk -s http_load.lua URL -- FILE
-- FILE: method, content type, body's file or "-", then the paths, a line each.
local prepared, at = {}, 0

function init(arguments)
  local lines = io.lines(arguments[1])
  local method, kind, from = lines(), lines(), lines()
  local body, headers = nil, {}
  if from ~= '-' then
    local file = io.open(from, 'rb')
    body = file:read('*a')
    file:close()
    headers['Content-Type'] = kind
  end
  for path in lines do prepared[#prepared + 1] = wrk.format(method, path, headers, body) end
end

function request()
  at = at % #prepared + 1
  return prepared[at]
end

function done(summary, latency)
  local wrong = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"errors":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    wrong.status + wrong.connect + wrong.read + wrong.write + wrong.timeout))
end
