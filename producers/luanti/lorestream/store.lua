-- Composes what is kept in the world's folder: the spool of events, and the list of those that were lost.

-- Size of the file of lines that could not be read from the spool, in bytes, from which on it does not grow.
local MAX_SET_ASIDE = 256 * 1024

-- part: loads a file of the mod. options: core, boot, limit (events), log(level, text), say (limited.lua),
-- agent_fault(agent_id), on_dropped(losses) after the loss is recorded. Returns {spool, losses, Segment, set_aside (a
-- path)}.
return function(part, options)
	local core, log = options.core, options.log
	local world = core.get_worldpath()
	local Segment, Ids = part("segment"), part("ids")

	local losses = part("losses").new({
		path = world .. "/lorestream_lost.ndjson",
		Ids = Ids,
		type_of = Segment.type_of,
		write_json = core.write_json,
		parse_json = core.parse_json,
		time = os.time,
		say = options.say,
	})

	local set_aside_path = world .. "/lorestream_set_aside.txt"
	local function set_aside(lines)
		local file = io.open(set_aside_path, "ab")
		if file and file:seek("end") < MAX_SET_ASIDE then
			file:write(table.concat(lines, "\n"), "\n")
		end
		if file then
			file:close()
		end
		losses:add("unreadable in the spool and set aside in " .. set_aside_path, lines)
	end

	-- In a read-only world, events are kept in memory only.
	local dir = world .. "/lorestream_spool"
	core.mkdir(dir)

	local Upkeep = part("upkeep", Segment, part("thinning", Segment, Ids), part("dropped", Segment, Ids))
	local spool = part("spool", Segment, part("queue"), part("pool", Segment), Upkeep, part("leftovers", Segment),
		part("erasures")).new({
		dir = dir,
		boot = options.boot,
		started = os.time(),
		limit = options.limit,
		list = function(path)
			return core.get_dir_list(path, false)
		end,
		log = log,
		check = part("line_check")(core.parse_json, options.agent_fault),
		set_aside = set_aside,
		on_dropped = function(dropped)
			losses:add_full(dropped)
			options.on_dropped(dropped)
		end,
	})

	return {spool = spool, losses = losses, Segment = Segment, set_aside = set_aside_path}
end
