-- A fake of the engine's functions that the mod uses: JSON with sorted keys as write_json has it, colours, files.

local dkjson = require("dkjson")

local fake = {}

local MAX_DEPTH = 1000

-- As the engine's: only the first value is read, null becomes nil, and too deep a nesting raises an error.
function fake.parse_json(text)
	local depth = 0
	for bracket in text:gmatch("[%[%]{}]") do
		depth = depth + ((bracket == "[" or bracket == "{") and 1 or -1)
		if depth > MAX_DEPTH then
			error("Exceeded stackLimit in readValue().")
		end
	end
	return (dkjson.decode(text, 1, nil, nil, nil))
end

local function write(value)
	local kind = type(value)
	if kind == "table" then
		if next(value) == nil then
			return "null"
		end
		local parts = {}
		if #value > 0 then
			for i = 1, #value do
				parts[i] = write(value[i])
			end
			return "[" .. table.concat(parts, ",") .. "]"
		end
		local keys = {}
		for key in pairs(value) do
			assert(type(key) == "string", "mixed keys")
			keys[#keys + 1] = key
		end
		table.sort(keys)
		for i, key in ipairs(keys) do
			parts[i] = ("%q:%s"):format(key, write(value[key]))
		end
		return "{" .. table.concat(parts, ",") .. "}"
	elseif kind == "string" then
		return '"' .. value:gsub('[%c"\\]', function(char)
			return ("\\u%04x"):format(char:byte())
		end) .. '"'
	elseif kind == "number" then
		return ("%.17g"):format(value)
	end
	return tostring(value)
end

-- What a translator makes of a text and its arguments, in English.
function fake.translate(text, ...)
	local values = {...}
	return (text:gsub("@(%d)", function(n)
		return tostring(values[tonumber(n)])
	end))
end

function fake.core()
	return {
		parse_json = fake.parse_json,
		write_json = function(value)
			local ok, text = pcall(write, value)
			return ok and text .. "\n" or nil, not ok and text or nil
		end,
		strip_colors = function(text)
			return (text:gsub("\27%([bcT][^)]*%)", "")) -- luacheck: ignore 631
		end,
		-- As the engine's, it takes a NUL for the end of the text.
		get_translated_string = function(_, text)
			return (text:gsub("%z.*", ""):gsub("\27%(T@[^)]*%)", ""):gsub("\27[EF]", ""))
		end,
	}
end

-- A clock controlled by the spec: wall() in whole seconds, micros() with another epoch.
function fake.time(start_s)
	local now = {us = start_s * 1e6}
	function now.wall()
		return math.floor(now.us / 1e6)
	end
	function now.micros()
		return now.us - 1e15 + 1e15 % 1 + 123
	end
	function now.pass(seconds)
		now.us = now.us + seconds * 1e6
	end
	return now
end

-- An empty folder, and a function that lists it.
function fake.folder()
	local path = os.tmpname()
	os.remove(path)
	assert(os.execute("mkdir -p '" .. path .. "'"))
	local function list()
		local pipe = assert(io.popen("ls '" .. path .. "'"))
		local names = {}
		for name in pipe:lines() do
			names[#names + 1] = name
		end
		pipe:close()
		return names
	end
	return path, list
end

-- A fake HTTP API: http.answer(code, body) completes the oldest open request. http.fetched: the number of results that
-- were fetched; the engine keeps the others.
function fake.http()
	local http = {requests = {}, results = {}, next_open = 1, fetched = 0}
	function http.fetch_async(request)
		http.requests[#http.requests + 1] = request
		return #http.requests
	end
	function http.fetch_async_get(handle)
		http.fetched = http.fetched + (http.results[handle] and 1 or 0)
		return http.results[handle] or {completed = false}
	end
	function http.answer(code, data)
		http.results[http.next_open] = {completed = true, succeeded = true, code = code, data = data}
		http.next_open = http.next_open + 1
	end
	return http
end

-- An engine for the whole mod. Functions that are not replaced do nothing, and lists are empty. core.entries has the
-- functions that the mod registered: core.entries.globalstep and others.
function fake.engine()
	local core = fake.core()
	core.entries = {}
	core.settings = {get = function() end, get_bool = function(_, _, default)
		return default
	end}
	function core.get_translator()
		return function(text)
			return text
		end
	end
	function core.get_us_time()
		return 1e6
	end
	function core.get_worldpath()
		return os.tmpname() .. "-absent"
	end
	function core.get_modpath()
		return "producers/luanti/lorestream"
	end
	function core.get_mod_storage()
		return setmetatable({}, {__index = function()
			return function()
				return ""
			end
		end})
	end
	function core.request_http_api()
		return {fetch_async = function() end, fetch_async_get = function()
			return {completed = false}
		end}
	end
	function core.get_dir_list()
		return {}
	end
	core.get_connected_players = core.get_dir_list
	return setmetatable(core, {__index = function(_, name)
		if name:find("^registered_") then
			return {}
		end
		local event = name:match("^register_on_(.+)") or name:match("^register_(globalstep)$")
		return function(fn)
			if event then
				core.entries[event] = core.entries[event] or {}
				table.insert(core.entries[event], fn)
			end
		end
	end})
end

-- Loads the whole mod with this engine, which stays the global `core`, and then calls what waits until all mods are
-- loaded. Returns its global table `lorestream`.
function fake.mod(core)
	_G.core = core
	dofile("producers/luanti/lorestream/init.lua")
	for _, entry in ipairs(core.entries.mods_loaded or {}) do
		entry()
	end
	return _G.lorestream
end

function fake.load(name, ...)
	return assert(loadfile("producers/luanti/lorestream/" .. name .. ".lua"))(...)
end

-- The options of a spool that a spec does not set.
function fake.spool_options(options)
	local defaults = {boot = "b0", started = 1, limit = 1000, log = function() end,
		check = function() return true end, set_aside = function() end, on_dropped = function() end}
	for key, value in pairs(defaults) do
		if options[key] == nil then
			options[key] = value
		end
	end
	return options
end

function fake.spool()
	local segment = fake.load("segment")
	local ids = fake.load("ids")
	local upkeep = fake.load("upkeep", segment, fake.load("thinning", segment, ids), fake.load("dropped", segment, ids))
	local pool, leftovers = fake.load("pool", segment), fake.load("leftovers", segment)
	return fake.load("spool", segment, fake.load("queue"), pool, upkeep, leftovers, fake.load("erasures"))
end

return fake
