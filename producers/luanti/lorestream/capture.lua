-- The recording of events in the game: which types, and the parts in capture/ that do it.

local KINDS = {"chat", "me", "dig", "place", "craft", "punch", "kill", "damage", "death", "respawn", "join", "leave",
	"eat", "pickup", "drop", "store", "take", "move", "trade", "interact", "zone", "protection", "cheat"}

-- part(name): loads a file of the mod. Returns {step(now_us), finish()}, to be called in each server step and at
-- shutdown.
return function(part, recorder, storage)
	local core, guard = recorder.core, recorder.guard

	local enabled = {}
	for _, kind in ipairs(KINDS) do
		enabled[kind] = core.settings:get_bool("lorestream.capture." .. kind, true)
	end

	local names = part("names").new()
	core.after(0, guard.wrap("reading the names of players", function()
		names:read(core.get_auth_handler(), storage)
		for _, registered in ipairs({core.registered_items, core.registered_entities}) do
			for name in pairs(registered) do
				names:add_words(name)
			end
		end
	end))

	local fights = part("capture/fights")(recorder, enabled)
	local players = part("capture/players")(recorder, enabled, names, fights)
	local items = part("capture/items")(recorder, enabled)
	local visit_zones = part("capture/zones")(recorder, enabled)
	part("capture/nodes")(recorder, enabled)
	part("capture/entities")(recorder, enabled, fights)
	part("capture/trades")(recorder, enabled)

	return {
		step = visit_zones,
		finish = function()
			items.settle()
			players.leave_all()
			recorder.folds:close_all()
		end,
	}
end
