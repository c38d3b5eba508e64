-- HTTP requests of searches and of documents: sends them, and reads their answers.

local Requests = {}
Requests.__index = Requests

-- All mods share the engine's parallel requests (8 by default).
local MAX_IN_FLIGHT = 4
-- When answers have taken this long in one step, the others are read in the next one. Parsing takes about 40 ns a byte.
local BUDGET_US = 3000

-- options: http or nil, api_key, micros(), parse(json), Answer (class).
function Requests.new(options)
	local self = setmetatable({flying = {}, unwanted = {}, sent = 0}, Requests)
	self.http, self.micros, self.parse, self.Answer = options.http, options.micros, options.parse, options.Answer
	self.headers = {"Content-Type: application/json"}
	if options.api_key ~= "" then
		self.headers[2] = "Authorization: Bearer " .. options.api_key
	end
	return self
end

-- The number of requests that can be sent now.
function Requests:free()
	return self.http and MAX_IN_FLIGHT - #self.flying or 0
end

-- Sends a POST. timeout: seconds. done(answer, reason, code) is called in a later step: the answer of a success is a
-- table and has no reason; other answers of the service are tables too, with a reason. most: the length of the longest
-- answer that is read (Answer.MAX_BYTES). Returns the request; set its field `over` if its answer is no longer needed.
function Requests:send(url, body, timeout, done, most)
	self.sent = self.sent + 1
	local request = {done = done, most = most or self.Answer.MAX_BYTES}
	self.flying[#self.flying + 1] = request
	request.handle = self.http.fetch_async({
		url = url,
		method = "POST",
		-- Releases before 5.14 cut off fractions.
		timeout = math.ceil(timeout),
		data = body,
		extra_headers = self.headers,
		quiet = true,
	})
	return request
end

-- Reads a result of the engine. Returns the answer or nil, the reason of a failure or nil, and the status.
function Requests:read(result, most)
	local code, answer, trouble = self.Answer.read(self.parse, result, nil, most)
	if code == 0 then
		return nil, result.timeout and "timeout" or "unreachable", code
	elseif type(result.data) == "string" and #result.data > most then
		return nil, "answer_too_large", code
	elseif trouble or code < 200 or code >= 300 then
		return answer, self.Answer.error_of(answer) or "HTTP " .. code, code
	end
	return answer, nil, code
end

-- The answer to a request is no longer needed. It is fetched all the same, because the engine keeps it until then. curl
-- ends the request by itself: it has its timeout.
function Requests:discard(handle)
	self.unwanted[#self.unwanted + 1] = handle
end

-- Reads the answers that have arrived. Call it once in each server step.
function Requests:step()
	local flying, unwanted = self.flying, self.unwanted
	if #flying == 0 and #unwanted == 0 then
		return
	end
	local began_us = self.micros()
	-- The result of a request if it has completed, and there is time to read it.
	local function result_of(handle)
		local result = self.micros() - began_us < BUDGET_US and self.http.fetch_async_get(handle)
		return result and result.completed and result or nil
	end
	self.flying, self.unwanted = {}, {}
	for _, request in ipairs(flying) do
		local result = not request.over and result_of(request.handle)
		if result then
			request.done(self:read(result, request.most))
		elseif request.over then
			self:discard(request.handle)
		else
			self.flying[#self.flying + 1] = request
		end
	end
	for _, handle in ipairs(unwanted) do
		if not result_of(handle) then
			self:discard(handle)
		end
	end
end

return Requests
