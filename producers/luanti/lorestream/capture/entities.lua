-- What players do to entities. The engine has no global hook for them, so their prototypes are wrapped once all
-- mods are loaded.

return function(recorder, wanted)
	local core = recorder.core

	local punched = recorder:guard("entity punch", function(entity, puncher)
		local name = recorder:player_name(puncher)
		if name then
			local event = recorder:deed("punch", name, puncher:get_pos(), {target = entity.name})
			recorder:fold_deed(event, entity.name, "count", 1)
		end
	end)

	local killed = recorder:guard("entity death", function(entity, killer)
		local name = not entity.lorestream_killed and recorder:player_name(killer)
		if name then
			entity.lorestream_killed = true
			recorder.folds:close_agent("player:" .. name)
			recorder:write(recorder:deed("kill", name, killer:get_pos(), {target = entity.name}))
		end
	end)

	-- mobs_redo keeps who did it here.
	local function killer_of(entity)
		local cause = entity.cause_of_death
		local dead = type(entity.health) ~= "number" or entity.health <= 0
		return dead and type(cause) == "table" and cause.puncher
	end

	local function wrap_punch(prototype)
		local original = prototype.on_punch
		prototype.on_punch = function(self, puncher, ...)
			punched(self, puncher)
			if original then
				return original(self, puncher, ...)
			end
		end
	end

	local function wrap_death(prototype)
		local on_death, on_die, on_deactivate = prototype.on_death, prototype.on_die, prototype.on_deactivate
		prototype.on_death = function(self, killer, ...)
			killed(self, killer)
			if on_death then
				return on_death(self, killer, ...)
			end
		end
		-- A mob of mobs_redo that gets an on_die loses its death animation: wrap it only where there is one.
		if on_die then
			prototype.on_die = function(self, ...)
				killed(self, killer_of(self))
				return on_die(self, ...)
			end
		elseif prototype._cmi_is_mob then
			prototype.on_deactivate = function(self, ...)
				killed(self, killer_of(self))
				if on_deactivate then
					return on_deactivate(self, ...)
				end
			end
		end
	end

	core.register_on_mods_loaded(function()
		for name, prototype in pairs(core.registered_entities) do
			-- The engine's own are items and falling nodes: to punch one is to pick it up.
			if name:sub(1, 2) ~= "__" then
				if wanted.punch then
					wrap_punch(prototype)
				end
				if wanted.kill then
					wrap_death(prototype)
				end
			end
		end
	end)
end
