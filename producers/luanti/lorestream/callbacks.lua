-- Calls the callbacks of other mods. An error in one stops nothing else, and their time is not the mod's own.

-- guard: guard.lua. micros(). Returns {call(what, callback, …), us = time that callbacks have taken so far}.
return function(guard, micros)
	local callbacks = {us = 0}

	function callbacks.call(what, callback, ...)
		local began_us = micros()
		guard.wrap(what, callback)(...)
		callbacks.us = callbacks.us + micros() - began_us
	end

	return callbacks
end
