-- Entry point: HTTP access, settings, and the composition of the parts.
--
--   api.lua         the global table `lorestream` for other mods
--   commands.lua    /lorestream status|recall|forget|optout
--   notices.lua     messages to admins
--   capture.lua     what is recorded of the game; the handlers are in capture/
--   bind.lua        agent ids of entities
--   recorder.lua    captured events: ids, times, folding
--   fold.lua        joins repeated events
--   encode.lua      events as JSON lines
--   clock.lua       time in milliseconds
--   store.lua       what is kept in the world's folder
--   spool.lua       events on disk until they are acknowledged; segment, queue, pool, upkeep, thinning, dropped, ids,
--                   leftovers and erasures belong to it
--   line_check.lua  checks the lines of earlier runs
--   sender.lua      sends the spool to the gateway; batch.lua halves what is refused
--   answer.lua      checks the answers of the services
--   losses.lua      events that were lost, and why
--   limited.lua     floods of log lines
--   settings.lua    settings within their limits
--   services.lua    composes what follows up to requests.lua
--   asking.lua      recall, get and context for other mods
--   questions.lua   what is asked in one step, as one request to the query service
--   state.lua       documents of agents for other mods; documents.lua writes them
--   receipts.lua    what became of events, for the callers of put and emit
--   callbacks.lua   calls the callbacks of other mods
--   rate.lua        how often each agent may ask
--   known.lua       open questions, and answers that are still valid
--   requests.lua    the HTTP requests of questions and documents
--   steps.lua       what is done in each server step, and at shutdown
--   privacy.lua     which players must not be recorded
--   names.lua       replaces player names in texts
--   importance.lua  how important events are by their type
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
-- If the mod takes longer than this in one step, it is counted as an overrun, and logged at most once a minute.
local SLOW_STEP_US = 10000
-- The gateway's limit for the name of a server, in characters.
local MAX_SERVER = 128

local S = core.get_translator("lorestream")

-- text may be translatable: logs are in English.
local function log(level, text)
	core.log(level, "[lorestream] " .. (text:find("\27", 1, true) and core.get_translated_string("en", text) or text))
end

local settings = part("settings")(core.settings, log)
local setting, number, base_url = settings.text, settings.number, settings.url

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
local Answer = part("answer")
local world = core.get_worldpath()
local micros = core.get_us_time
local limited = part("limited")(log, micros)
local url = base_url("url", "http://127.0.0.1:8080")
local server = setting("server", world:match("([^/\\]+)[/\\]*$") or "luanti", MAX_SERVER)
-- The beginning of the ids that lorestream.agent_id makes. Many worlds have the same folder name: without a name in the
-- settings, the last digits of the map's seed are added.
local agent_prefix = setting("server", "") ~= "" and server
	or server .. "-" .. (core.get_mapgen_setting("seed") or "0"):sub(-5)
local api_key = setting("api_key", "")
local storage = core.get_mod_storage()
local Profile = part("profile")
local step_profile = Profile.new(SLOW_STEP_US)

local boot = random_boot()
local callbacks = part("callbacks")(guard, micros)
local receipts
local store = part("store")(part, {
	core = core,
	boot = boot,
	limit = math.floor(number("spool_limit", 100000, 1, 1e7)),
	log = log,
	say = limited.say,
	agent_fault = encode.agent_fault,
	on_dropped = function(dropped)
		receipts:settle_ids(dropped.ids, "dropped")
	end,
})
local spool, losses, Segment = store.spool, store.losses, store.Segment
receipts = part("receipts").new({
	micros = micros,
	lines_in = Segment.lines_in,
	id_of = Segment.id_of,
	callbacks = callbacks,
	can_send = http ~= nil,
})

local privacy = part("privacy").new(storage)

local Importance = part("importance")
local importance, misunderstood = Importance.table_from(setting("importance", ""))
if #misunderstood > 0 then
	log("error", ("lorestream.importance: not understood and ignored: %s. Write TYPE=NUMBER, with numbers from 0 to 10, "
		.. "separated by commas"):format(table.concat(misunderstood, ", ")))
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
	fold_interval = number("fold_interval", 2, 0, 3600),
	say = limited.say,
	privacy = privacy,
	importance = importance,
	valid_importance = Importance.valid,
	bindings = part("bind").new(encode.agent_fault),
})

local notices = part("notices").new(core, S, losses)

local function on_ack()
	notices:withdraw("sending")
	local drops = spool.dropped_left == 0 and losses:unreported()
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
	losses:reported()
end

local sender, services
if http then
	sender = part("sender").new({
		spool = spool,
		http = http,
		url = url,
		server = server,
		api_key = api_key,
		flush_interval = number("flush_interval", 0.5, 0, 3600),
		micros = micros,
		parse = core.parse_json,
		quote = function(text)
			return (core.write_json(text):gsub("\n$", ""))
		end,
		random = math.random,
		log = log,
		S = S,
		warn = function(about, text)
			notices:warn(about, text)
		end,
		withdraw = function(about)
			notices:withdraw(about)
		end,
		discard = function(handle)
			services.requests:discard(handle)
		end,
		lose = function(why, lines)
			losses:add(why, lines)
			receipts:settle_lines(lines, nil, why)
		end,
		on_accepted = function(body, token)
			receipts:settle_lines({body}, token, not token and "no token" or nil)
		end,
		on_ack = on_ack,
		Answer = Answer,
		Batch = part("batch", Segment),
	})
else
	local text = S("The mod may not use HTTP and keeps events in the world's folder. Set this and restart: @1", HTTP_LINE)
	notices:warn("sending", text)
	log("error", text)
end

services = part("services")(part, {
	http = http,
	core = core,
	settings = settings,
	url = url,
	query_url = base_url("query_url", url),
	api_key = api_key,
	boot = boot,
	callbacks = callbacks,
	log = log,
	Answer = Answer,
})
local questions = services.questions
recorder.on_write = services.on_write

local forget_player
local api_parts = {
	core = core,
	encode = encode,
	recorder = recorder,
	spool = spool,
	sender = sender,
	questions = questions,
	documents = services.documents,
	callbacks = callbacks,
	guard = guard,
	losses = losses,
	set_aside = store.set_aside,
	Answer = Answer,
	ask_profile = Profile.new(),
	step_profile = step_profile,
	log = log,
	privacy = privacy,
	url = url,
	server = server,
	agent_prefix = agent_prefix,
	random = random_boot,
}
lorestream, forget_player = part("api")(api_parts)
part("state")(api_parts, lorestream, part("asking")(api_parts, lorestream))
-- The callback is the last argument.
lorestream.put = receipts:wrap(lorestream.put, 5)
lorestream.emit = receipts:wrap(lorestream.emit, 4)
if core.settings:get_bool("lorestream.memory_alias", true) and rawget(_G, "memory") == nil then
	memory = {put = lorestream.put, get = lorestream.get}
end

local capture = part("capture")(part, recorder, storage)

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
		privacy:set(name, out)
	end,
})

core.register_on_joinplayer(guard.wrap("the notice to admins", function(player)
	notices:greet(player)
end))

part("steps")({
	core = core,
	guard = guard,
	log = log,
	limited = limited,
	notices = notices,
	recorder = recorder,
	spool = spool,
	sender = sender,
	requests = services.requests,
	questions = questions,
	capture = capture,
	documents = services.documents,
	receipts = receipts,
	callbacks = callbacks,
	profile = step_profile,
})

guard.wrap("reading the list of losses", function()
	losses:load()
end)()
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
