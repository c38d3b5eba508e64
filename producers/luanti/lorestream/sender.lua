-- Sends the spool to the gateway: one request in flight, so that the order is kept; retries with backoff.

local Sender = {}
Sender.__index = Sender

local MIN_BACKOFF_S = 0.5
local MAX_BACKOFF_S = 60
-- Upper bound for the retry_after_ms of a gateway.
local MAX_RETRY_AFTER_S = 600
-- Timeout of a request in curl. A slow gateway may need several seconds for a durable write.
local TIMEOUT_S = 10
-- A request that curl has not ended after this time, for example behind requests of other mods, is given up.
local GIVE_UP_US = 60 * 1e6
local SHUTDOWN_TIMEOUT_US = 1e6

-- options: spool, http ({fetch_async, fetch_async_get}), url, server, api_key, flush_interval (s), micros(),
-- parse(json), quote(text) -> JSON string, random() in [0, 1), log(level, text), warn(text) to the admins, on_ack()
-- after each acknowledged batch.
function Sender.new(options)
	local self = setmetatable({}, Sender)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.interval_us = options.flush_interval * 1e6
	self.next_us = 0
	self.failures = 0
	self.sent, self.rejected, self.refused = 0, 0, 0
	self.seen_codes = {}
	self.opening = '{"server":' .. options.quote(options.server) .. ',"events":['
	self.headers = {"Content-Type: application/json"}
	if options.api_key ~= "" then
		self.headers[2] = "Authorization: Bearer " .. options.api_key
	end
	return self
end

-- Sends an empty request while the server loads, and ignores the answer: the first request starts the engine's curl
-- thread, which takes a millisecond.
function Sender:greet()
	self.http.fetch_async({
		url = self.url .. "/v1/events",
		method = "POST",
		timeout = TIMEOUT_S,
		data = '{"events":[]}',
		extra_headers = self.headers,
	})
end

-- Sends a request or reads an answer, never both. Call it once in each server step. Returns true if it did either.
function Sender:step(now_us)
	if self.flight then
		local result = self.http.fetch_async_get(self.flight.handle)
		if not result.completed and now_us - self.flight.began_us > GIVE_UP_US then
			result = {completed = true, code = 0, timeout = true}
		end
		if result.completed then
			self:judge(result, now_us)
		end
		return result.completed
	elseif now_us >= self.next_us and self.spool:due(now_us, self.interval_us) then
		self:fire(now_us)
		return true
	end
end

function Sender:fire(now_us)
	local segment = self.spool:take()
	if not segment then
		return
	end
	local path, data = "/v1/erasures", segment.body
	if not segment.erase then
		path = "/v1/events"
		data = self.opening .. data .. "]}"
	end
	self.flight = {
		segment = segment,
		began_us = now_us,
		handle = self.http.fetch_async({
			url = self.url .. path,
			method = "POST",
			timeout = TIMEOUT_S,
			data = data,
			extra_headers = self.headers,
		}),
	}
end

-- Removes the ids from an answer before it is parsed: they are not needed, and parsing 199 of them took a millisecond.
local function without_ids(body)
	local _, opening = body:find('"ids"%s*:%s*%[')
	local closing = opening and body:find("]", opening, true)
	return closing and body:sub(1, opening) .. body:sub(closing) or body
end

local function answer_of(parse, result)
	local body = result.data
	-- parse_json logs an error for invalid JSON: check the beginning first.
	if type(body) == "string" and body:find("^%s*{") then
		local answer = parse(without_ids(body))
		return type(answer) == "table" and answer or {}
	end
	return {}
end

local function is_success(code)
	return code >= 200 and code < 300
end

-- What to do with the batch after an answer: "done", "drop" (refused; a retry is pointless), "wait" (overload or
-- outage: retry later), or "setup" (wrong configuration: keep the events and tell the admins).
function Sender.verdict(code, answer)
	if is_success(code) then
		return (answer.accepted or answer.erasure_id) and "done" or "setup"
	elseif code == 0 or code == 408 or code == 429 or code >= 500 then
		return "wait"
	elseif code == 401 or code == 403 or code == 404 then
		return "setup"
	elseif type(answer.error) == "table" and answer.error.code then
		return "drop"
	end
	-- Not an answer of Lorestream: another service listens at this address.
	return "setup"
end

function Sender:judge(result, now_us)
	local segment = self.flight.segment
	self.flight = nil
	local code = result.code or 0
	if code ~= 0 then
		self.answered_us = now_us
	end
	local answer = answer_of(self.parse, result)
	local verdict = Sender.verdict(code, answer)
	local error_of = type(answer.error) == "table" and answer.error or {}
	if verdict == "done" then
		self:accept(segment, answer)
	elseif verdict == "drop" then
		self.refused = self.refused + segment.count
		self.last_error = ("HTTP %d %s: %s"):format(code, tostring(error_of.code), tostring(error_of.message))
		self.log("error", ("the gateway refused %d events, they are dropped: %s"):format(segment.count, self.last_error))
		self.spool:done(segment)
	else
		segment.taken = nil
		self:back_off(code, answer, now_us)
		if verdict == "setup" then
			self:explain(code, error_of)
		end
		return
	end
	self.next_us = 0
	local pause_ms = tonumber(answer.retry_after_ms) or 0
	if pause_ms > 0 then
		self.next_us = now_us + math.min(pause_ms / 1000, MAX_RETRY_AFTER_S) * 1e6
	end
	if verdict == "done" then
		self.on_ack()
	end
end

function Sender:accept(segment, answer)
	if self.failures > 0 or not self.connected then
		self.log("action", "connected to " .. self.url)
	end
	self.failures, self.connected, self.last_error, self.explained = 0, true, nil, nil
	local rejected = type(answer.rejected) == "table" and answer.rejected or {}
	for _, reject in ipairs(rejected) do
		local code = tostring(reject.code)
		if not self.seen_codes[code] then
			self.seen_codes[code] = true
			self.log("warning", ("the gateway rejected an event, it is dropped: %s: %s (logged once for each code)")
				:format(code, tostring(reject.message)))
		end
	end
	self.rejected = self.rejected + #rejected
	if not segment.erase then
		self.sent = self.sent + segment.count - #rejected
	end
	self.spool:done(segment)
end

-- Exponential backoff with jitter in [0.5, 1] of the delay, and at least what the gateway asked for.
function Sender:back_off(code, answer, now_us)
	self.failures = self.failures + 1
	local delay = math.min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ^ math.min(self.failures - 1, 20))
	delay = delay * (0.5 + 0.5 * self.random())
	local asked = math.min((tonumber(answer.retry_after_ms) or 0) / 1000, MAX_RETRY_AFTER_S)
	self.next_us = now_us + math.max(delay, asked) * 1e6
	self.last_error = code == 0 and "no answer" or "HTTP " .. code
	if not self.explained and (self.failures == 1 or self.failures % 10 == 0) then
		self.log("warning", ("%s from %s: %d events are kept, next attempt in %.1f s"):format(
			self.last_error, self.url, self.spool.count, math.max(delay, asked)))
	end
end

function Sender:explain(code, error_of)
	local line
	if code == 401 or code == 403 then
		line = "the gateway refuses the API key: set lorestream.api_key = ID.SECRET in the server's configuration"
	elseif error_of.code == "wrong_service" then
		line = "lorestream.url does not point to the gateway: " .. tostring(error_of.message)
	else
		line = "no Lorestream gateway at this address: set lorestream.url = http://HOST:PORT in the server's configuration"
	end
	line = ("%s from %s: %s. Events are kept."):format(self.last_error, self.url, line)
	if self.explained ~= line then
		self.explained = line
		self.log("error", line)
		self.warn(line)
	end
end

-- At shutdown, no more callbacks run: wait for the request in flight, then send the rest, within one second in total.
-- Events without an answer stay in their files until the next start.
function Sender:finish()
	local deadline = self.micros() + SHUTDOWN_TIMEOUT_US
	local failures = self.failures
	repeat
		if not self.flight then
			self:fire(self.micros())
		end
		local flight = self.flight
		while flight and self.flight == flight and self.micros() < deadline do
			local result = self.http.fetch_async_get(flight.handle)
			if result.completed then
				self:judge(result, self.micros())
			end
		end
	until self.flight or self.failures > failures or not flight or self.micros() >= deadline
end

return Sender
