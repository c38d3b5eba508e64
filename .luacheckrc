std = "lua51"
max_line_length = 120
codes = true

read_globals = {
	"core",
	"dump",
	"ItemStack",
	"SecureRandom",
	"vector",
	table = {fields = {"copy"}},
}

files["producers/luanti/lorestream/init.lua"] = {globals = {"lorestream"}}
files["producers/luanti/examples/lorestream_woodcutter"] = {read_globals = {"lorestream"}}
files["tests/luanti/driver"] = {read_globals = {"lorestream", "default"}, globals = {"core"}}
files["tests/luanti/scene"] = {
	read_globals = {"lorestream", "default"},
	globals = {"scene_build", "scene_memories"},
}
files["tests/luanti/stopwatch"] = {globals = {"core", "stopwatch"}}
files["tests/luanti/specs"] = {std = "+busted"}
