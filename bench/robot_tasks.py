"""Meta-World's tasks for bench/robot_skills.py: instructions, demonstrations by the scripted experts, rollouts of many tasks at once.

Needs metaworld==3.1.1 (mujoco 3.3.0, gymnasium 1.4.0). Nothing is drawn (MUJOCO_GL=disabled). Of a task's 50 places 0-24 are for
demonstrations, 25-44 for asking, and 45-49 for tuning.
"""
import multiprocessing
import os
import warnings

import numpy as np

os.environ.setdefault("MUJOCO_GL", "disabled")

STATE, ACTION, STEPS = 39, 4, 200
DEMONSTRATIONS, ASKED, TUNED = range(25), range(25, 45), range(45, 50)

BASES = {
    "robots": ["reach", "push", "drawer-close", "button-press-topdown", "window-open"],
    "cw10": ["reach", "drawer-close", "button-press-topdown", "window-open"],  # push is taught in the chain
}
CHAINS = {
    "robots": ["door-open", "drawer-open", "faucet-open", "hammer", "handle-press-side", "window-close", "plate-slide", "pick-place", "peg-insert-side", "push-wall", "faucet-close"],
    "cw10": ["hammer", "push-wall", "faucet-close", "push-back", "stick-pull", "handle-press-side", "push", "shelf-place", "window-close", "peg-unplug-side"],
}

# Of each task six wordings that are taught, the first of them its name, and four that are only asked.
WORDINGS = {
    "reach": (["reach the target point", "move the hand to the goal", "go to the marked spot", "bring the gripper to the target", "reach for the goal position", "touch the target point"],
              ["guide the hand to the target", "get to the goal spot", "move to the marked point", "stretch the arm to the target"]),
    "push": (["push the puck to the goal", "push the puck forward", "shove the puck to the target", "slide the puck to the goal by pushing", "move the puck to the target by pushing it", "push the puck onto the mark"],
             ["give the puck a push to the target", "shove the puck onto the goal", "push the small puck to its goal", "nudge the puck forward to the mark"]),
    "drawer-close": (["close the drawer", "push the drawer shut", "shut the drawer", "slide the drawer closed", "put the drawer back in", "make sure the drawer is closed"],
                     ["get the drawer shut", "push in the drawer until it is closed", "please close that drawer", "the drawer should be shut"]),
    "button-press-topdown": (["press the button from above", "push down the button", "press the button down", "hit the button from the top", "push the button on the top", "press down on the button"],
                             ["press that button from the top", "push the button downwards", "put pressure on the button from above", "please press the top button"]),
    "window-open": (["open the window", "slide the window open", "push the window open", "get the window open", "move the window to the open side", "make the window open"],
                    ["please open that window", "the window should be open", "open up the window", "slide open the window pane"]),
    "door-open": (["open the door", "pull the door open", "swing the door open", "get the door open", "turn the door on its hinge until it is open", "make the door open"],
                  ["please open that door", "the door should be open", "open up the door", "pull open the door by its handle"]),
    "drawer-open": (["open the drawer", "pull the drawer open", "pull out the drawer", "slide the drawer open", "get the drawer open", "draw the drawer out"],
                    ["please open that drawer", "the drawer should be open", "open up the drawer", "pull the drawer out by its handle"]),
    "faucet-open": (["open the faucet", "turn on the faucet", "turn the faucet open", "switch the tap on", "rotate the faucet handle to open it", "let the water run from the faucet"],
                    ["please turn the tap on", "the faucet should be on", "open up the faucet", "get the faucet running"]),
    "hammer": (["hammer the nail", "hit the nail with the hammer", "drive the nail into the wall with the hammer", "take the hammer and hit the nail", "use the hammer on the nail", "knock the nail in"],
               ["drive in the nail", "pound the nail with the hammer", "please hammer that nail in", "strike the nail with the hammer"]),
    "handle-press-side": (["press the handle down from the side", "push the handle down sideways", "press the side handle", "push down the handle at the side", "press the handle beside you down", "lower the handle from the side"],
                          ["push the side handle down", "please press that handle from the side", "the handle at the side should go down", "press down the lateral handle"]),
    "window-close": (["close the window", "slide the window shut", "push the window closed", "shut the window", "get the window closed", "make the window shut"],
                     ["please close that window", "the window should be shut", "slide the window pane closed", "close up the window"]),
    "plate-slide": (["slide the plate into the goal", "slide the plate forward", "push the plate into the cabinet", "slide the dish to the target", "move the plate by sliding it", "slide the plate into the net"],
                    ["please slide that plate in", "slide the dish forward into the goal", "the plate should slide to the target", "get the plate into the cabinet by sliding"]),
    "pick-place": (["pick up the puck and place it at the goal", "lift the puck to the target in the air", "grasp the puck and carry it to the goal", "pick and place the puck", "take the puck and lift it to the mark", "grab the puck and put it at the target"],
                   ["pick the puck up and bring it to the target", "lift up the puck and place it", "grip the puck and carry it up to the mark", "please pick up that puck and place it"]),
    "peg-insert-side": (["insert the peg into the hole from the side", "put the peg into the hole", "insert the peg sideways", "push the peg in the side hole", "plug the peg into the box", "stick the peg into the hole at the side"],
                        ["please insert that peg", "the peg should go into the side hole", "get the peg inside the hole", "put the peg in from the side"]),
    "push-wall": (["push the puck around the wall", "push the puck past the wall to the goal", "move the puck behind the wall", "bring the puck around the wall by pushing", "push the puck along the wall to the target", "get the puck past the wall"],
                  ["shove the puck around the wall", "push the puck to the goal behind the wall", "please push that puck past the wall", "go round the wall with the puck"]),
    "push-back": (["pull the puck back to the goal", "push the puck backwards", "move the puck back towards you", "drag the puck to the target behind it", "bring the puck back", "slide the puck backward to the mark"],
                  ["please push that puck back", "get the puck back to the goal", "shove the puck backward", "the puck should go back to the mark"]),
    "stick-pull": (["pull the mug with the stick", "use the stick to pull the box", "take the stick and pull the thermos", "grab the stick and drag the container", "pull with the stick", "hook the handle with the stick and pull"],
                   ["please pull it with the stick", "drag the mug by the stick", "use the stick for pulling", "take the stick and drag the box"]),
    "shelf-place": (["place the block on the shelf", "put the block onto the shelf", "lift the block to the shelf", "set the cube on the shelf", "pick the block and put it on the shelf", "store the block on the shelf"],
                    ["please put that block on the shelf", "the block should be on the shelf", "get the cube onto the shelf", "carry the block to the shelf"]),
    "peg-unplug-side": (["unplug the peg from the side", "pull the peg out of the hole", "take the peg out sideways", "remove the peg from the box", "draw the peg out of the hole", "pull out the peg at the side"],
                        ["please unplug that peg", "the peg should be out of the hole", "get the peg out", "remove the peg from its hole"]),
    "faucet-close": (["close the faucet", "turn off the faucet", "turn the faucet closed", "switch the tap off", "rotate the faucet handle to close it", "stop the water from the faucet"],
                     ["please turn the tap off", "the faucet should be off", "shut the faucet", "get the faucet to stop running"]),
}


def short(name):
    return name.removesuffix("-v3")


def expert_episode(env, expert, task, rng):
    """States and what the expert would do there; what is done is noisy on half of the steps. None: the task was not solved."""
    env.set_task(task)
    state, _ = env.reset()
    states, actions, left = [], [], None
    for _ in range(STEPS):
        action = np.clip(expert.get_action(state), -1, 1)
        states.append(state)
        actions.append(action)
        if rng.random() < 0.5:
            action = np.clip(action + rng.normal(0, [0.25, 0.25, 0.25, 0.05]), -1, 1)
        state, _, _, _, info = env.step(action.astype(np.float32))
        if left is None and info["success"] > 0:
            left = 12
        elif left is not None:
            left -= 1
        if left == 0:
            return np.array(states, np.float32), np.array(actions, np.float32)
    return None


def open_task(name):
    warnings.filterwarnings("ignore")
    import metaworld
    from metaworld.policies import ENV_POLICY_MAP

    tasks = metaworld.MT1(name + "-v3", seed=0)
    return tasks.train_classes[name + "-v3"](), list(tasks.train_tasks), ENV_POLICY_MAP[name + "-v3"]()


def demonstrate(name, folder, seed):
    """25 episodes of the expert, from `folder` if they were made before."""
    path = folder / f"{name}-{seed}.npz"
    if not path.exists():
        env, places, expert = open_task(name)
        rng = np.random.default_rng([seed, *name.encode()])
        parts = []
        for place in DEMONSTRATIONS:
            for _ in range(10):
                episode = expert_episode(env, expert, places[place], rng)
                if episode is not None:
                    parts.append((*episode, np.full(len(episode[0]), len(parts), np.int32)))
                    break
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{k: np.concatenate(v) for k, v in zip(("states", "actions", "episodes"), zip(*parts))})
    with np.load(path) as f:
        return f["states"], f["actions"], f["episodes"]


def serve_tasks(pipe, names):
    """A process with the simulators of some tasks."""
    worlds = {name: open_task(name)[:2] for name in names}
    while (message := pipe.recv()) is not None:
        kind, orders = message
        out = {}
        for name, order in orders.items():
            env, places = worlds[name]
            if kind == "reset":
                env.set_task(places[order])
                out[name] = env.reset()[0], False
            else:
                state, _, _, _, info = env.step(np.clip(order, -1, 1).astype(np.float32))
                out[name] = state, info["success"] > 0
        pipe.send(out)


class World:
    """All tasks side by side, one simulator each, in a few processes."""

    def __init__(self, names, jobs):
        context = multiprocessing.get_context("spawn")
        self.pipes, self.where = [], {}
        for job in range(jobs):
            own = names[job::jobs]
            ours, theirs = context.Pipe()
            context.Process(target=serve_tasks, args=(theirs, own), daemon=True).start()
            self.pipes.append(ours)
            self.where |= {name: job for name in own}

    def send(self, kind, orders):
        parts = [{} for _ in self.pipes]
        for name, order in orders.items():
            parts[self.where[name]][name] = order
        busy = [pipe for pipe, part in zip(self.pipes, parts) if part]
        for pipe, part in zip(self.pipes, parts):
            if part:
                pipe.send((kind, part))
        return {name: answer for pipe in busy for name, answer in pipe.recv().items()}

    def rollouts(self, wanted, act):
        """wanted: {task: places}. act(tasks, places, states) -> actions. {task: {place: whether it was solved within 200 steps}}."""
        queue = {name: list(places) for name, places in wanted.items()}
        solved = {name: {} for name in wanted}
        running = {}
        while True:
            fresh = {name: places.pop(0) for name, places in queue.items() if name not in running and places}
            if fresh:
                for name, (state, _) in self.send("reset", fresh).items():
                    running[name] = [fresh[name], 0, state]
            if not running:
                return solved
            names = list(running)
            actions = act(names, [running[n][0] for n in names], np.array([running[n][2] for n in names], np.float32))
            for name, (state, success) in self.send("step", dict(zip(names, actions))).items():
                running[name][1:] = running[name][1] + 1, state
                if success or running[name][1] == STEPS:
                    solved[name][running[name][0]] = bool(success)
                    del running[name]

    def close(self):
        for pipe in self.pipes:
            pipe.send(None)
