std = "lua51"
max_line_length = 120
codes = true

read_globals = {
	"core",
	"dump",
	"ItemStack",
	"SecureRandom",
	"vector",
	"PcgRandom",
	"VoxelArea",
	table = {fields = {"copy", "indexof"}},
}

files["producers/luanti/lorestream/init.lua"] = {globals = {"lorestream", "memory"}}
files["producers/luanti/examples"] = {read_globals = {"lorestream_agents"}}
files["producers/luanti/examples/lorestream_agents"] = {globals = {"lorestream_agents"}}
files["tests/luanti/arenas"] = {read_globals = {"lorestream_agents"}, globals = {"arenas"}}
files["tests/luanti/driver"] = {read_globals = {"lorestream", "default"}, globals = {"core"}}
files["tests/luanti/pace"] = {read_globals = {"lorestream"}, globals = {"core", "pace"}}
files["tests/luanti/scene"] = {
	read_globals = {"lorestream", "default"},
	globals = {"scene_build", "scene_memories"},
}
files["tests/luanti/cast"] = {globals = {"core"}}
files["tests/luanti/stopwatch"] = {globals = {"core", "stopwatch"}}
files["tests/luanti/record"] = {read_globals = {"NAMES", "SECONDS", "SPEED", "done"}}
files["tests/luanti/specs"] = {std = "+busted"}
