-- Entry point: HTTP access, settings, and the composition of the parts.
--
--   api.lua         the global table `lorestream` for other mods
--   commands.lua    /lorestream status|recall|forget|optout
--   notices.lua     messages to admins
--   capture/        event handlers: players, nodes, entities
--   recorder.lua    captured events: ids, times, folding
--   fold.lua        joins repeated events
--   encode.lua      events as JSON lines
--   clock.lua       time in milliseconds
--   spool.lua       events on disk until they are acknowledged; segment, queue, pool, upkeep and thinning belong to it
--   sender.lua      sends the spool to the gateway
--   questions.lua   searches at the query service
--   guard.lua       keeps errors of the mod from the engine
--   profile.lua     what the mod costs

-- The engine returns the HTTP API only while this file loads, and only to mods in secure.http_mods. It must stay in a
-- local variable. Builds without curl do not have this function.
local http = core.request_http_api and core.request_http_api()

local path = core.get_modpath(core.get_current_modname())
local function part(name, ...)
	return assert(loadfile(path .. "/" .. name .. ".lua"))(...)
end

local HTTP_LINE = "secure.http_mods = lorestream"
local CAPTURED = {"chat", "dig", "place", "craft", "punch", "damage", "death", "join", "leave", "kill"}
-- Time limit for writing finished folds in one server step; the rest waits for the next step.
local FOLD_BUDGET_US = 300
-- The spool's upkeep runs in a step that has taken less time than this, but at least in every second step.
local TEND_BUDGET_US = 100
local TEND_EVERY = 2
-- If the mod takes longer than this in one step, it logs a warning, at most once a minute.
local SLOW_STEP_US = 10000

local S = core.get_translator("lorestream")

-- text may be translatable: logs are in English.
local function log(level, text)
	core.log(level, "[lorestream] " .. (text:find("\27", 1, true) and core.get_translated_string("en", text) or text))
end

-- The engine does not apply the defaults in settingtypes.txt.
local function setting(name, default)
	local value = core.settings:get("lorestream." .. name)
	return value ~= nil and value ~= "" and value or default
end

local function number(name, default, least)
	local text = setting(name, default)
	local value = tonumber(text)
	if not value or value ~= value or value < least then
		log("error", ("lorestream.%s = %s is not a number of at least %s: using %s"):format(name, text, least, default))
		return default
	end
	return value
end

local function base_url(name, default)
	return (setting(name, default):gsub("/+$", ""))
end

local function random_boot()
	local source = SecureRandom and SecureRandom()
	if source then
		return (source:next_bytes(8):gsub(".", function(byte)
			return ("%02x"):format(byte:byte())
		end))
	end
	return ("%08x%08x"):format(os.time() % 2 ^ 32, core.get_us_time() % 2 ^ 32)
end

local guard = part("guard")(log)
local encode = part("encode")
local world = core.get_worldpath()
local micros = core.get_us_time
local url = base_url("url", "http://127.0.0.1:8080")
local server = setting("server", world:match("([^/\\]+)[/\\]*$") or "luanti")
local api_key = setting("api_key", "")
local storage = core.get_mod_storage()
local Profile = part("profile")
local step_profile = Profile.new(SLOW_STEP_US)

-- In a read-only world, events are kept in memory only.
local spool_dir = world .. "/lorestream_spool"
core.mkdir(spool_dir)

local boot = random_boot()
local Segment = part("segment")
local Upkeep = part("upkeep", Segment, part("thinning", Segment))
local spool = part("spool", Segment, part("queue"), part("pool", Segment), Upkeep).new({
	dir = spool_dir,
	boot = boot,
	started = os.time(),
	limit = number("spool_limit", 100000, 1),
	list = function(dir)
		return core.get_dir_list(dir, false)
	end,
	log = log,
})

local optouts = {}
local function is_captured(name)
	if optouts[name] == nil then
		optouts[name] = storage:get_string("optout:" .. name) ~= ""
	end
	return not optouts[name]
end

local recorder = part("recorder").new({
	core = core,
	encode = encode,
	spool = spool,
	clock = part("clock").new(os.time, micros),
	fold = part("fold"),
	profile = Profile.new(),
	guard = guard,
	boot = boot,
	fold_interval = number("fold_interval", 2, 0),
	log = log,
	is_captured = is_captured,
})

local notices = part("notices").new(core, S)

local function on_ack()
	notices:withdraw()
	local drops = spool:take_drops()
	if not drops then
		return
	end
	recorder.sequence = recorder.sequence + 1
	local line = encode.event(core, {
		id = boot .. ":" .. recorder.sequence,
		agent_id = "server:" .. server,
		type = "spool_dropped",
		data = drops,
		time = recorder.clock:stamp(),
		tick = recorder:tick(),
	})
	spool:put_first(line, micros())
	log("warning", drops.count .. " events were dropped: the spool was full while the gateway could not be reached")
end

local sender
if http then
	sender = part("sender").new({
		spool = spool,
		http = http,
		url = url,
		server = server,
		api_key = api_key,
		flush_interval = number("flush_interval", 0.5, 0),
		micros = micros,
		parse = core.parse_json,
		quote = function(text)
			return (core.write_json(text):gsub("\n$", ""))
		end,
		random = math.random,
		log = log,
		warn = function(text)
			notices:warn(text)
		end,
		on_ack = on_ack,
	})
else
	local text = S("The mod may not use HTTP and keeps events in the world's folder. Set this and restart: @1", HTTP_LINE)
	notices:warn(text)
	log("error", text)
end

local questions = part("questions").new({
	http = http,
	url = base_url("query_url", url),
	api_key = api_key,
	timeout = number("timeout", 2, 0.2),
	rate = number("recall_rate", 5, 0.01),
	burst = number("recall_burst", 10, 1),
	micros = micros,
	parse = core.parse_json,
	log = log,
})

local forget_player
lorestream, forget_player = part("api")({
	core = core,
	encode = encode,
	recorder = recorder,
	spool = spool,
	sender = sender,
	questions = questions,
	guard = guard,
	step_profile = step_profile,
	url = url,
	server = server,
})

local enabled = {}
for _, kind in ipairs(CAPTURED) do
	enabled[kind] = core.settings:get_bool("lorestream.capture." .. kind, true)
end
local players = part("capture/players")(recorder, enabled)
part("capture/nodes")(recorder, enabled)
part("capture/entities")(recorder, enabled)

part("commands")({
	core = core,
	S = S,
	log = log,
	lorestream = lorestream,
	guard = guard,
	forget_player = forget_player,
	set_optout = function(name, out)
		if out then
			recorder.folds:close_agent("player:" .. name)
		end
		optouts[name] = out
		storage:set_string("optout:" .. name, out and "1" or "")
	end,
})

core.register_on_joinplayer(guard.wrap("the notice to admins", function(player)
	notices:greet(player)
end))

local last_warning_us = 0
local steps_untended = 0

-- Each part of a step has a guard of its own, so that an error in one does not stop the others.
local send = guard.wrap("sending events", function(now_us)
	return sender and sender:step(now_us)
end)
local fold = guard.wrap("folding events", function(now_us)
	recorder.folds:step(now_us, function()
		return micros() - now_us < FOLD_BUDGET_US
	end)
end)
local tend = guard.wrap("the upkeep of the spool", function(now_us)
	steps_untended = 0
	spool:tend(now_us)
end)
local collect = guard.wrap("reading answers to searches", function(now_us)
	questions:step(now_us)
end)

core.register_globalstep(guard.wrap("the server step", function()
	local began = micros()
	recorder.clock:now_ms()
	steps_untended = steps_untended + 1
	if spool:awaits_file() and steps_untended > 1 then
		-- Creating or deleting a file may take a millisecond: do nothing else in this step.
		tend(began)
	else
		local busy = send(began)
		fold(began)
		local light = micros() - began < TEND_BUDGET_US
		if not busy and not spool:awaits_file() and (light or steps_untended >= TEND_EVERY) then
			tend(began)
		end
	end
	local own_us = micros() - began
	collect(began)
	step_profile:add(own_us)
	if own_us > SLOW_STEP_US and began - last_warning_us > 60e6 then
		last_warning_us = began
		log("warning", ("the mod took %.1f ms in one server step"):format(own_us / 1000))
	end
end))

local function at_shutdown(what, fn)
	core.register_on_shutdown(guard.wrap(what, fn))
end
at_shutdown("recording that players leave", function()
	players.leave_all()
	recorder.folds:close_all()
end)
at_shutdown("sending events at shutdown", function()
	if sender then
		sender:finish()
	end
end)
at_shutdown("closing the spool", function()
	spool:close()
end)
at_shutdown("ending searches", function()
	questions:close()
end)

local replayed = guard.wrap("reading the spool", function()
	return spool:load()
end)() or 0
guard.wrap("the first request", function()
	if sender then
		sender:greet()
	end
end)()
log("action", ("started, boot id %s: server %s, gateway %s, %d events left from earlier runs"):format(
	boot, server, url, replayed))
