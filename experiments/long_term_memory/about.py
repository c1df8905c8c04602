"""The text of the results page."""

INTRODUCTION = """\
An RNN computes its whole state anew in each step: what it read earlier survives only as far as a matrix and
a squashing function pass it on, again and again. An LSTM changes its cell state by small sums and products,
c = f c + i g: where the forget gate f is 1 and the input gate i is 0, what is written stays as it is. The
gradient takes the same way back. Through an RNN it is multiplied by a Jacobian in each step, so that it
vanishes or explodes; along the cell state it is multiplied by forget gates near 1, and arrives.

![Norm of the gradient over 100 steps back](pictures/gradients.png)

*Before training, on sequences of the adding problem: how much of the gradient of the last output is left so
many steps back. Left: in LSTMs whose forget gates begin open, or that have none, as much arrives after 100
steps as after one, or more; with a forget bias of 1 a thousandth, in an RNN less than a billionth, in a GRU
less still. Right: half the recurrent kernel makes it vanish sooner, three times the kernel makes it
explode. Clipped in each step it stays finite; but what is left has no size any more, so that it cannot tell
how much each step mattered.*

![Eigenvalues of the Jacobians over 1, 10 and 100 steps](pictures/eigenvalues.png)

*The same as eigenvalues of the Jacobian of the last state by the state 1, 10 and 100 steps before. The
state of an LSTM is a hidden and a cell state: half of the directions, those of the cell state, have
eigenvalues near 1 over ten steps, and are still there after 100; the other half is forgotten within ten. In
a GRU and an RNN all directions vanish; with three times the kernel a few explode while the others shrink.*

![Gates and states of one unit](pictures/adding/unit.png)

*A trained LSTM at work on the adding problem with T = 400, one unit. Top: the numbers, and below them the
markers. **Write**: the input gate is shut but for the two marked numbers, 120 steps apart, at which the cell
state jumps. **Keep**: the forget gate is at 1; in the 300 steps that follow the cell state drifts by half of
the last jump. **Read**: the output gate shows it at all times; the linear layer reads it where it is asked.*

![Gates and states of one unit in a continual stream](pictures/continual-reber/unit.png)

*The same in a stream of Reber strings that nothing divides. **Forget**: the forget gate shuts several times
in each string, and the cell state starts anew. This unit keeps a few symbols; others never forget, and their
cell states only grow.*

![Gradient of a trained LSTM over the adding problem](pictures/adding/gradient_flow.png)

*The gradient of the loss at the last step, over all 420 steps of that sequence. Along the cell state all of
it arrives at the first step. That by the hidden state is a hundred times smaller, but for the two marked
steps, where the hidden state has a say in what is written.*

All units: [adding](pictures/adding/traces.png), [Reber grammar](pictures/continual-reber/traces.png).

```sh
python -m experiments long_term_memory gradients --out experiments/results/long_term_memory/pictures
python -m experiments long_term_memory traces --model adding-400-lstm --out \\
    experiments/results/long_term_memory/pictures/adding
python -m experiments long_term_memory traces --model continual-reber-lstm --out \\
    experiments/results/long_term_memory/pictures/continual-reber
```"""

PROCEDURE = """\
## How the figures are made

They are how many sequences a network reads until it has solved a problem, by the criterion of its paper.
Each row of ours is of several networks, with random seeds of their own, that are trained side by side as
one program. The median counts a network that did not solve the problem with all the sequences that it was
given; where half or more did not, it is a lower bound and marked so. `wrong of 2,560` is the mean number of
further sequences that the networks that solved the problem get wrong. Figures of papers are means over
trials.

The papers trained by gradient descent after each sequence, with truncated gradients; here it is Adam, on
batches of 20 sequences, with the whole gradient, so the comparison is with what was possible then.
`lstm-1997` is their cell, without forget gates, trained as all others here. Each sequence is new, so there
is no test set to choose on. In the papers the embedded Reber grammar had 256 training and 256 test strings;
here all strings are new, and the 512 most recent ones must be right. Minutes are of one core that other
work shared, pauses included.

Forget gates begin nearly open (bias 5); rate and number of steps of the first problems were set, for the
LSTM only, in trials with the seed of the records: the RNN and the GRU had no such care. With that bias and
seed, five networks had learned nothing of adding over 400 steps after 52,000 sequences, and three of five
were no better than chance at temporal order of 3 after 95,000. So these, multiplication and the copy memory
begin with `--chrono` (Tallec and Ollivier 2018, arXiv:1804.11188): biases of the forget gates spread over
memories of up to so many steps, and input gates as nearly shut as forget gates are open. That, and 32
hidden units for the copy memory, were chosen in trials of two networks with another seed. All other recipes
are the defaults, untuned."""

ABOUT = {
    "adding": """\
Two of T numbers are marked, in the first half of the sequence; the sum of the two is asked at its end,
within 0.04. Nothing but a memory for exact values over T / 2 steps and more can tell.""",
    "multiplication": """\
The same with the product of the two, which a cell state that adds up does not compute by itself.""",
    "temporal-order-2": """\
Among 100 random symbols two, far apart, are X or Y. Which of the four possible orders was it?""",
    "temporal-order-3": "The same with three symbols and eight orders.",
    "two-sequence": """\
The first three elements are 1 or -1, all others noise on the same line. The authors themselves found that
random guessing of weights solves it sooner; it shows that noise on the line of the signal does no harm.""",
    "two-sequence-noisy": "The same with noise on the first three elements: a few answers must be wrong.",
    "copy": """\
Ten symbols are read, then T blanks; after a delimiter the ten are asked for, in order: 30 bits have to be
kept at once. Solved means here 2,000 sequences in a row without one wrong symbol. The LSTM does not come so
far in the steps that it was given; but its loss fell below what is possible without a memory, and was still
falling at the end. That of the RNN, which was trained for fewer steps, does not get below it.""",
    "reber": """\
The next symbol of a string of a grammar, of which the second symbol and the last but one are the same.
Short lags, so an RNN solves it here too; in the paper of 1989 it did not.""",
    "continual-reber": """\
The same strings in one stream, and nothing says where one ends: a network has to empty its memory by itself.
Ours counts as solved after 1,000 streams of 100 symbols without an error. Theirs is the share of networks
that made no error in 1,000,000 symbols, after up to 30,000 streams, each of which ends with the first error;
without forget gates and without resets from outside none of theirs learned it.

We do not see that difference. Our cell of 1997, without forget gates, learns it as soon, and goes on in
streams a thousand times as long as those it was trained on; that it errs sooner there than the LSTM is
within the spread of five networks. Two things differ from the paper, and may be why. Each of our streams
has 100 symbols and begins with an empty state, so that a cell state cannot grow far in training; and the
gradient is the whole one, which trains the hidden state to carry symbols as in an RNN, where the truncated
one does not.""",
    "counting": """\
The next symbol of a string of n a, n b and n c, with n from 1 to 10: the first language beyond context-free
ones that a network was shown to learn. The figures of that paper were not at hand.""",
    "timing": """\
Spikes come F or F + 1 steps after one another; at each spike the network has to say which it was. Solved
means a thousand in a row without an error. A peephole lets a gate see the cell state that it guards,
however far the output gate is shut. For this task it is not needed: with and without, all networks solve it
in much the same time, and the paper found peepholes of no great use here either (section 4.2, at second
hand). The paper trained one single cell, on streams that end with the first error; its figures were not at
hand.""",
    "timed-spikes": """\
The reverse: a network reads, after each spike, whether the next is due in F or F + 1 steps, and has to
produce it at the right step, when nothing is read. In the paper only cells with peepholes were used for it
(at second hand). Here the LSTM does it without, since 16 units can tell one another what the gates do not
see; the networks with peepholes are quicker.""",
}
