-- Captures punches and kills of entities by players. The engine has no global callback for entities, so the
-- prototypes are wrapped after all mods are loaded.

return function(recorder, enabled)
	local core = recorder.core

	local punched = recorder:wrap("entity punch", function(entity, puncher)
		local name = recorder:player_name(puncher)
		if name then
			local event = recorder:deed("punch", name, puncher:get_pos(), {target = entity.name})
			recorder:fold_deed(event, entity.name, "count", 1)
		end
	end)

	local killed = recorder:wrap("entity death", function(entity, killer)
		local name = not entity.lorestream_killed and recorder:player_name(killer)
		if name then
			entity.lorestream_killed = true
			recorder.folds:close_agent("player:" .. name)
			recorder:write(recorder:deed("kill", name, killer:get_pos(), {target = entity.name}))
		end
	end)

	-- mobs_redo stores the killer in cause_of_death.
	local function killer_of(entity)
		local cause = entity.cause_of_death
		local dead = type(entity.health) ~= "number" or entity.health <= 0
		return dead and type(cause) == "table" and cause.puncher
	end

	local died = recorder.guard.wrap("finding the killer of an entity", function(entity)
		killed(entity, killer_of(entity))
	end)

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
		-- Adding on_die to a mob of mobs_redo removes its death animation: wrap on_die only if it exists.
		if on_die then
			prototype.on_die = function(self, ...)
				died(self)
				return on_die(self, ...)
			end
		elseif prototype._cmi_is_mob then
			prototype.on_deactivate = function(self, ...)
				died(self)
				if on_deactivate then
					return on_deactivate(self, ...)
				end
			end
		end
	end

	core.register_on_mods_loaded(recorder.guard.wrap("wrapping entities", function()
		for name, prototype in pairs(core.registered_entities) do
			-- Names with __ are the engine's own entities, items and falling nodes: punching one picks it up.
			if name:sub(1, 2) ~= "__" then
				if enabled.punch then
					wrap_punch(prototype)
				end
				if enabled.kill then
					wrap_death(prototype)
				end
			end
		end
	end))
end
